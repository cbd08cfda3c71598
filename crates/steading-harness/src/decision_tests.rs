use proptest::prelude::*;
use steading_report::{Kind, Row};

use super::*;

fn exited(status: i32) -> AttemptEnd {
    AttemptEnd::Process { status: Some(status), signal: None }
}

#[test]
fn only_a_function_that_returned_ok_has_passed() {
    let of = |end| outcome(end, None, None);
    assert_eq!(of(exited(80)), Outcome::Passed);
    assert_eq!(of(exited(0)), Outcome::Failed(Failure::Exited { status: 0 }));
    assert_eq!(of(exited(81)), Outcome::Failed(Failure::Returned));
    assert_eq!(of(exited(101)), Outcome::Failed(Failure::Panicked));
    let killed = AttemptEnd::Process { status: None, signal: Some(6) };
    assert_eq!(of(killed), Outcome::Failed(Failure::Signal { signal: 6 }));
    let reason = "the group has ended".to_owned();
    let lost = AttemptEnd::Lost { reason: reason.clone() };
    assert_eq!(of(lost), Outcome::Failed(Failure::Group { reason }));
}

#[test]
fn a_skip_needs_a_reason_and_the_status_of_one() {
    let reason = "no disk".to_owned();
    assert_eq!(outcome(exited(82), None, Some(&reason)), Outcome::Skipped { reason: reason.clone() });
    assert_eq!(outcome(exited(80), None, Some(&reason)), Outcome::Passed);
    assert_eq!(outcome(exited(82), None, None), Outcome::Failed(Failure::Exited { status: 82 }));
}

#[test]
fn a_testnet_that_stays_is_left_by_the_first_interrupt_and_the_run_is_not_interrupted() {
    let mut course = Course::default();
    course.stay();
    assert_eq!(course.interrupt(1), OnInterrupt::Leave);
    assert!(course.is_whole() && !course.is_staying());
    assert_eq!(course.interrupt(1), OnInterrupt::EndFunctions);
    assert_eq!(course.interrupt(2), OnInterrupt::Kill);
    assert!(!course.is_whole());
}

#[test]
fn a_testnet_that_stays_may_be_torn_down_by_others() {
    let mut course = Course::default();
    course.stay();
    assert_eq!(course.end_owner(), "the group was torn down");
    assert_eq!(course.exit_code(&Summary::new("s"), true), exit_code::PASSED);
    let mut course = Course::default();
    assert_eq!(course.end_owner(), "the group has ended");
    assert_eq!(course.exit_code(&Summary::new("s"), true), exit_code::FAILED);
}

#[test]
fn the_worst_that_happened_decides_the_exit_status() {
    let (mut summary, mut course) = (Summary::new("s"), Course::default());
    assert_eq!(course.exit_code(&summary, true), exit_code::PASSED);
    let before = Failure::Returned;
    summary.add(Row::new("f", Kind::Test, Outcome::Flaky { attempt: 2, before }));
    assert_eq!(course.exit_code(&summary, true), exit_code::FLAKY);
    summary.add(Row::new("t", Kind::Test, Outcome::Failed(Failure::Panicked)));
    assert_eq!(course.exit_code(&summary, true), exit_code::FAILED);
    summary.add(Row::new("s", Kind::Setup, Outcome::Failed(Failure::Panicked)));
    assert_eq!(course.exit_code(&summary, true), exit_code::SETUP_FAILED);
    course.interrupt(1);
    assert_eq!(course.exit_code(&summary, true), exit_code::INTERRUPTED);
    assert_eq!(course.exit_code(&summary, false), exit_code::SETUP_FAILED);
}

/// What happens to a run while an attempt is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Interrupt,
    OwnerEnds,
    TimeIsOver,
}

fn any_trouble() -> impl Strategy<Value = Option<Trouble>> {
    prop_oneof![
        8 => Just(None),
        1 => Just(Some(Trouble::Interrupt)),
        1 => Just(Some(Trouble::OwnerEnds)),
        1 => Just(Some(Trouble::TimeIsOver)),
    ]
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![1 => Just(Role::Setup), 4 => Just(Role::Test), 1 => Just(Role::Teardown)]
}

fn any_end() -> impl Strategy<Value = AttemptEnd> {
    prop_oneof![
        prop_oneof![Just(80), Just(81), Just(82), Just(101), any::<i32>()].prop_map(exited),
        any::<i32>().prop_map(|signal| AttemptEnd::Process { status: None, signal: Some(signal) }),
        ".*".prop_map(|reason| AttemptEnd::Lost { reason }),
    ]
}

fn any_failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        Just(Failure::Interrupted),
        any::<(u64, bool)>().prop_map(|(seconds, overall)| Failure::TimedOut { seconds, overall }),
    ]
}

proptest! {
    /// A function is tried until it does not fail, its attempts are used up, or the run is ending, and never longer;
    /// its outcome is that of the last attempt, which names the failure before it if it passed.
    #[test]
    fn a_function_is_tried_again_exactly_as_long_as_that_may_help(
        role in any_role(),
        own in 0..4_u32,
        of_run in 0..4_u32,
        history in prop::collection::vec((any_end(), any_trouble()), 8),
    ) {
        let attempts = attempts(role, own, of_run);
        prop_assert!(attempts >= 1);
        prop_assert!(role == Role::Test || attempts == 1);
        let (mut course, mut is_time_over) = (Course::default(), false);
        let (mut number, mut before) = (1, None);
        for (end, trouble) in history {
            match trouble {
                Some(Trouble::Interrupt) => { course.interrupt(1); }
                Some(Trouble::OwnerEnds) => { course.end_owner(); }
                Some(Trouble::TimeIsOver) => is_time_over = true,
                None => {}
            }
            let is_ending = course != Course::default() || is_time_over;
            let ended = outcome(end, None, Some("a reason"));
            let decision = course.after_attempt(ended.clone(), (number, attempts), before.clone(), is_time_over);
            match decision {
                Decision::Retry { number: next, failure } => {
                    prop_assert!(!is_ending, "tried again although the run is ending");
                    prop_assert_eq!(next, number + 1);
                    prop_assert!(next <= attempts);
                    prop_assert_eq!(&ended, &Outcome::Failed(failure.clone()));
                    number = next;
                    before = Some(failure);
                }
                Decision::Final(last) => {
                    let may_go_on = matches!(ended, Outcome::Failed(_)) && number < attempts && !is_ending;
                    prop_assert!(!may_go_on, "given up too soon");
                    match (ended, before) {
                        (Outcome::Passed, Some(before)) => {
                            prop_assert_eq!(last, Outcome::Flaky { attempt: number, before });
                        }
                        (ended, _) => prop_assert_eq!(last, ended),
                    }
                    return Ok(());
                }
            }
        }
        prop_assert!(false, "tried more often than it may be");
    }

    #[test]
    fn the_reason_for_which_an_attempt_was_ended_outweighs_how_it_ended(
        end in any_end(),
        failure in any_failure(),
        skip in prop::option::of(".*"),
    ) {
        prop_assert_eq!(outcome(end, Some(&failure), skip.as_deref()), Outcome::Failed(failure));
    }

    /// Once it is interrupted, or its owner has ended, a run is not whole again, whatever comes; nor is its status good.
    #[test]
    fn a_run_that_was_cut_off_stays_so(steps in prop::collection::vec((0..3_u8, 1..4_u32), 0..12)) {
        let (mut course, mut was_cut_off) = (Course::default(), false);
        for (step, count) in steps {
            let stayed = course.is_staying();
            match step {
                0 => course.stay(),
                1 => {
                    let response = course.interrupt(count);
                    prop_assert_eq!(response == OnInterrupt::Leave, stayed);
                    prop_assert!(stayed || (response == OnInterrupt::Kill) == (count > 1));
                    was_cut_off |= !stayed;
                }
                _ => {
                    course.end_owner();
                    was_cut_off |= !stayed;
                }
            }
            prop_assert_eq!(course.is_whole(), !was_cut_off);
            let code = course.exit_code(&Summary::new("s"), true);
            prop_assert_eq!(code == exit_code::PASSED, !was_cut_off);
        }
    }
}
