use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::suite::SectionShape;

/// A section, for tests.
#[derive(Clone, Debug)]
struct Spec {
    order: SectionOrder,
    setups: usize,
    items: Vec<ItemSpec>,
    teardowns: usize,
}

#[derive(Clone, Debug)]
enum ItemSpec {
    Test,
    Section(Spec),
}

fn build(shape: &mut SuiteShape, spec: &Spec) -> SectionId {
    let id = SectionId(shape.sections.len());
    let empty = SectionShape { order: spec.order, setups: vec![], items: vec![], teardowns: vec![] };
    shape.sections.push(empty);
    let add = |shape: &mut SuiteShape| {
        shape.functions += 1;
        FunctionId(shape.functions - 1)
    };
    shape.sections[id.0].setups = (0..spec.setups).map(|_| add(shape)).collect();
    let mut items = Vec::new();
    for item in &spec.items {
        items.push(match item {
            ItemSpec::Test => SectionItem::Test(add(shape)),
            ItemSpec::Section(spec) => SectionItem::Section(build(shape, spec)),
        });
    }
    shape.sections[id.0].items = items;
    shape.sections[id.0].teardowns = (0..spec.teardowns).map(|_| add(shape)).collect();
    id
}

fn shape(spec: &Spec) -> SuiteShape {
    let mut shape = SuiteShape::default();
    build(&mut shape, spec);
    shape
}

fn section(order: SectionOrder, setups: usize, items: Vec<ItemSpec>, teardowns: usize) -> Spec {
    Spec { order, setups, items, teardowns }
}

fn schedule(shape: &SuiteShape) -> Schedule<'_> {
    Schedule::new(shape, &HashMap::new(), usize::MAX)
}

fn starts(steps: &[Step]) -> Vec<usize> {
    let start = |step: &Step| match step {
        Step::Start(id) => Some(id.0),
        Step::Skip(..) => None,
    };
    steps.iter().filter_map(start).collect()
}

fn skips(steps: &[Step]) -> Vec<usize> {
    let skip = |step: &Step| match step {
        Step::Skip(id, _) => Some(id.0),
        Step::Start(_) => None,
    };
    steps.iter().filter_map(skip).collect()
}

use ItemSpec::Test;
const PARALLEL: SectionOrder = SectionOrder::Parallel(usize::MAX);

#[test]
fn a_sequence_runs_one_after_the_other_between_setup_and_teardown() {
    let shape = shape(&section(SectionOrder::Sequential, 1, vec![Test, Test], 1));
    let mut schedule = schedule(&shape);
    for id in 0..4 {
        assert_eq!(starts(&schedule.next()), [id]);
        assert_eq!(schedule.next(), []);
        schedule.ended(FunctionId(id), id != 1);
    }
    assert_eq!(schedule.next(), []);
    assert!(schedule.is_done());
}

#[test]
fn a_failed_setup_skips_its_tests_and_nested_ones_and_still_tears_down() {
    let inner = section(PARALLEL, 1, vec![Test, Test], 1);
    let shape = shape(&section(SectionOrder::Sequential, 2, vec![Test, ItemSpec::Section(inner)], 1));
    let mut schedule = schedule(&shape);
    assert_eq!(starts(&schedule.next()), [0]);
    schedule.ended(FunctionId(0), false);
    let steps = schedule.next();
    // Setups 0 and 1, test 2, then inside: setup 3, tests 4 and 5, teardown 6; teardown 7.
    assert_eq!(skips(&steps), [2, 4, 5]);
    assert_eq!(starts(&steps), [7]);
}

#[test]
fn parallel_tests_run_at_once_up_to_their_number_and_that_of_all() {
    let all = shape(&section(PARALLEL, 0, vec![Test, Test, Test], 0));
    assert_eq!(starts(&schedule(&all).next()), [0, 1, 2]);
    assert_eq!(starts(&Schedule::new(&all, &HashMap::new(), 2).next()), [0, 1]);
    let two = shape(&section(SectionOrder::Parallel(2), 0, vec![Test, Test, Test], 0));
    let mut two = schedule(&two);
    assert_eq!(starts(&two.next()), [0, 1]);
    two.ended(FunctionId(1), true);
    assert_eq!(starts(&two.next()), [2]);
}

#[test]
fn sections_side_by_side_keep_their_own_order() {
    let sequence = || ItemSpec::Section(section(SectionOrder::Sequential, 0, vec![Test, Test], 0));
    let shape = shape(&section(PARALLEL, 0, vec![sequence(), sequence()], 0));
    let mut schedule = schedule(&shape);
    assert_eq!(starts(&schedule.next()), [0, 2]);
    schedule.ended(FunctionId(2), true);
    assert_eq!(starts(&schedule.next()), [3]);
    schedule.ended(FunctionId(0), false);
    assert_eq!(starts(&schedule.next()), [1]);
}

#[test]
fn a_section_whose_tests_are_left_out_is_not_set_up() {
    let inner = section(SectionOrder::Sequential, 1, vec![Test], 1);
    let shape = shape(&section(SectionOrder::Sequential, 1, vec![ItemSpec::Section(inner), Test], 1));
    let left_out = HashMap::from([(FunctionId(2), "filter".to_owned())]);
    let mut schedule = Schedule::new(&shape, &left_out, 1);
    let first = schedule.next();
    assert_eq!((skips(&first), starts(&first)), (vec![2], vec![0]));
    schedule.ended(FunctionId(0), true);
    assert_eq!(starts(&schedule.next()), [4]);
}

#[test]
fn after_a_stop_nothing_but_teardowns_of_what_was_entered_starts() {
    let inner = || ItemSpec::Section(section(SectionOrder::Sequential, 1, vec![Test], 1));
    let shape = shape(&section(SectionOrder::Sequential, 0, vec![inner(), inner()], 1));
    let mut schedule = schedule(&shape);
    assert_eq!(starts(&schedule.next()), [0]);
    schedule.stop("interrupted");
    schedule.ended(FunctionId(0), false);
    let steps = schedule.next();
    assert_eq!(starts(&steps), [2]);
    schedule.ended(FunctionId(2), true);
    let more = schedule.next();
    assert_eq!([skips(&steps), skips(&more)].concat(), [1, 4]);
    assert_eq!(starts(&more), [6]);
}

#[test]
fn once_abandoned_nothing_starts() {
    let shape = shape(&section(SectionOrder::Sequential, 0, vec![Test, Test], 1));
    let mut schedule = schedule(&shape);
    assert_eq!(starts(&schedule.next()), [0]);
    schedule.abandon("interrupted");
    schedule.ended(FunctionId(0), false);
    let steps = schedule.next();
    assert_eq!((skips(&steps), starts(&steps)), (vec![1], vec![]));
    assert!(schedule.is_done());
}

#[test]
fn a_held_suite_waits_before_its_teardowns_even_without_a_test() {
    let shape = shape(&section(SectionOrder::Sequential, 1, vec![Test], 1));
    let left_out = HashMap::from([(FunctionId(1), "only setup".to_owned())]);
    let mut schedule = Schedule::new(&shape, &left_out, 1).hold();
    assert_eq!(starts(&schedule.next()), [0]);
    schedule.ended(FunctionId(0), true);
    assert_eq!(schedule.next(), []);
    assert!(schedule.is_holding());
    schedule.release();
    assert_eq!(starts(&schedule.next()), [2]);
}

fn any_order() -> impl Strategy<Value = SectionOrder> {
    prop_oneof![
        Just(SectionOrder::Sequential),
        (1..4_usize).prop_map(SectionOrder::Parallel),
        Just(SectionOrder::Parallel(usize::MAX))
    ]
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let leaf = (any_order(), 0..3_usize, 0..4_usize, 0..3_usize)
        .prop_map(|(order, setups, tests, teardowns)| section(order, setups, vec![Test; tests], teardowns));
    leaf.prop_recursive(3, 24, 4, |inner| {
        let item = prop_oneof![Just(Test), inner.prop_map(ItemSpec::Section)];
        (any_order(), 0..3_usize, prop::collection::vec(item, 0..5), 0..3_usize)
            .prop_map(|(order, setups, items, teardowns)| section(order, setups, items, teardowns))
    })
}

/// All tests of a section, and all its functions but its own teardowns.
fn members(shape: &SuiteShape, id: SectionId) -> (Vec<FunctionId>, Vec<FunctionId>) {
    let (mut tests, mut all) = (Vec::new(), shape[id].setups.clone());
    for item in &shape[id].items {
        match *item {
            SectionItem::Test(test) => {
                tests.push(test);
                all.push(test);
            }
            SectionItem::Section(inner) => {
                let (inner_tests, inner_all) = members(shape, inner);
                tests.extend(inner_tests);
                all.extend(inner_all);
                all.extend(&shape[inner].teardowns);
            }
        }
    }
    (tests, all)
}

proptest! {
    #[test]
    fn each_test_is_reported_once_and_in_a_right_order(
        spec in any_spec(),
        choices in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.8)), 1..200),
        slots in 1..5_usize,
        left_out in prop::collection::hash_set(0..40_usize, 0..6),
        stop_at in prop::option::of(0..60_usize),
    ) {
        let shape = shape(&spec);
        let (tests, _) = members(&shape, SuiteShape::ROOT);
        let left_out: HashMap<_, _> = tests.iter().filter(|id| left_out.contains(&id.0))
            .map(|id| (*id, "filter".to_owned())).collect();
        let mut schedule = Schedule::new(&shape, &left_out, slots);
        let (mut running, mut begun, mut over, mut failed) =
            (Vec::new(), HashSet::new(), HashSet::new(), HashSet::new());
        let mut choices = choices.iter().cycle();
        for round in 0.. {
            if stop_at == Some(round) {
                schedule.stop("stop");
            }
            for step in schedule.next() {
                match step {
                    Step::Skip(id, _) => {
                        prop_assert!(tests.contains(&id), "only tests are reported as left out");
                        prop_assert!(over.insert(id), "reported twice");
                        prop_assert!(!begun.contains(&id));
                    }
                    Step::Start(id) => {
                        prop_assert!(begun.insert(id), "started twice");
                        prop_assert!(!over.contains(&id));
                        running.push(id);
                        check_order(&shape, SuiteShape::ROOT, id, &begun, &over, &failed)?;
                    }
                }
            }
            prop_assert!(running.len() <= slots);
            if running.is_empty() {
                break;
            }
            let (index, passed) = choices.next().expect("a cycle has no end");
            let id = running.swap_remove(index.index(running.len()));
            schedule.ended(id, *passed);
            over.insert(id);
            if !passed {
                failed.insert(id);
            }
        }
        prop_assert!(schedule.is_done(), "nothing runs, yet it is not done");
        for test in tests {
            prop_assert!(over.contains(&test), "a test was not reported");
            prop_assert!(!(left_out.contains_key(&test) && begun.contains(&test)));
        }
    }
}

/// What must hold when `started` starts, for each section around it.
fn check_order(
    shape: &SuiteShape,
    id: SectionId,
    started: FunctionId,
    begun: &HashSet<FunctionId>,
    over: &HashSet<FunctionId>,
    failed: &HashSet<FunctionId>,
) -> Result<(), TestCaseError> {
    let (_, all) = members(shape, id);
    if shape[id].teardowns.contains(&started) {
        prop_assert!(
            all.iter().all(|id| over.contains(id) || !begun.contains(id)),
            "a teardown came too soon"
        );
        prop_assert!(all.iter().any(|id| begun.contains(id)), "torn down, yet never entered");
    } else if all.contains(&started) && !shape[id].setups.contains(&started) {
        for setup in &shape[id].setups {
            prop_assert!(over.contains(setup) && !failed.contains(setup), "started without its setup");
        }
        prop_assert!(!shape[id].teardowns.iter().any(|id| begun.contains(id)), "started after a teardown");
    }
    for item in &shape[id].items {
        if let SectionItem::Section(inner) = *item {
            check_order(shape, inner, started, begun, over, failed)?;
        }
    }
    Ok(())
}
