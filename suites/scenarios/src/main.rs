//! Suites without a guest, one for each way in which a suite may end; `SCENARIO` says which. The
//! tests beside it (`tests/driver`) run them and look at what the driver makes of them.

#![expect(clippy::print_stdout, clippy::exit, reason = "misbehaving is what these functions are for")]

mod act;
mod machines;

use std::process::ExitCode;
use std::time::Duration;

use act::{hang, meet, overflow, trace};
use anyhow::bail;
use steading::{Group, Section, Suite, TestOptions};

const SHORT: Duration = Duration::from_secs(1);

/// A name that is longer than a line.
const LONG_NAME: &str =
    "a_function_whose_name_says_all_that_there_is_to_say_about_it_and_then_goes_on_for_a_while";

fn main() -> ExitCode {
    let name = std::env::var("SCENARIO").unwrap_or_default();
    if let Some(suite) = suite(&name) {
        return suite.main();
    }
    println!("SCENARIO={name:?} is none of them");
    ExitCode::from(99)
}

fn suite(name: &str) -> Option<Suite> {
    let suite = Suite::new(name.replace('_', "-"));
    Some(match name {
        "success" => suite
            .setup(trace("setup"))
            .test("first", trace("first"))
            .test("second", trace("second"))
            .teardown(trace("teardown")),
        "endings" => endings(suite),
        "hang" => suite.limit(SHORT).test("hangs", |_| hang()).test("after", passes),
        "own_limit" => {
            suite.test_with("hangs", TestOptions::new().limit(SHORT), |_| hang()).test("after", passes)
        }
        "setup_panics" => nested(suite.setup(|_| panic!("no etcd here"))),
        "setup_fails" => nested(suite.setup(|_| bail!("no etcd here"))),
        "setup_hangs" => nested(suite.limit(SHORT).setup(|_| hang())),
        "setup_of_section_fails" => suite
            .sequential("broken", |section| {
                section.setup(|_| bail!("no")).test("inside", passes).teardown(trace("inner teardown"))
            })
            .test("outside", passes),
        "teardown_fails" => suite.test("test", passes).teardown(|_| bail!("cannot put it back")),
        "overall_in_setup" => {
            nested(suite.overall_limit(SHORT).setup(|_| hang())).teardown(trace("teardown"))
        }
        "overall_in_test" => suite
            .overall_limit(SHORT)
            .test("hangs", |_| hang())
            .test("after", passes)
            .teardown(trace("teardown")),
        "parallel_1" => suite.parallel("all", |section| three(section.at_most(1))),
        "parallel_2" => suite.parallel("all", |section| meeting(section, 2)),
        "parallel_3" => suite.parallel("all", |section| meeting(section, 3)),
        "nesting" => nesting(suite),
        "line_end_in_a_name" => suite.test("first\nforged: test", passes).test("second", passes),
        "noisy" => suite.test("speaks", |testnet| {
            println!("\u{1b}[2J\u{1b}]0;title\u{7}cleared \u{202e}gnp.exe");
            testnet.log("one\rtwo \u{1b}[31mred \u{fffe}");
            bail!("it said \u{fffe}\u{1b}[1m\u{9b}2J {}", "x".repeat(100_000))
        }),
        "duplicate" => suite.test("same", passes).test("same", passes),
        "orphan" => suite.test("leaves", act::leave_a_child).test("after", passes),
        "flood" => suite.test("floods", |_| act::flood(1 << 30)).test("after", passes),
        "invalid_utf8" => suite.test("babbles", |_| act::babble()),
        "closed_stdout" => suite.test("speaks", |_| {
            println!("a line");
            Ok(())
        }),
        "flaky" => suite.test_with("at_last", TestOptions::new().retries(2), |testnet| {
            anyhow::ensure!(testnet.attempt() == 2, "not at attempt {}", testnet.attempt());
            Ok(())
        }),
        "never" => suite.test_with("never", TestOptions::new().retries(2), |_| bail!("never")),
        "skips" => suite
            .test("here", |testnet| Err(testnet.skip("this group has no VM")))
            .test_with("day", TestOptions::new().ignored("takes a day"), passes)
            .test("other", passes),
        _ => return of_the_driver(name, suite),
    })
}

/// Suites by which the driver itself is put to the test.
fn of_the_driver(name: &str, suite: Suite) -> Option<Suite> {
    Some(match name {
        "rules" => suite
            .forbid_log("disk is on fire")
            .require_log("all is well")
            .limit_metric("latency_ms", ..10.0)
            .test("measures", |testnet| {
                println!("the disk is on fire");
                testnet.metric("latency_ms", 12.5);
                Ok(())
            }),
        "rules_kept" => suite
            .forbid_log("disk is on fire")
            .require_log("all is well")
            .limit_metric("latency_ms", ..10.0)
            .test("measures", |testnet| {
                testnet.log("all is well");
                testnet.metric("latency_ms", 2.5);
                Ok(())
            }),
        "waits" => suite
            .test("waits", |testnet| {
                trace("waiting")(testnet)?;
                hang()
            })
            .test("after", passes)
            .teardown(trace("teardown")),
        "reports" => suite.test("reports", |_| act::report_on_a_signal()),
        "reports_late" => suite.limit(SHORT).test("reports", |_| act::report_on_a_signal()),
        "replaced" => suite
            .test("waits", |testnet| {
                trace("first")(testnet)?;
                act::wait_for_file("removed")
            })
            .test("second", trace("second")),
        // Three that run at once and print while they do, one of them with a name too long to show.
        "screen" => suite.parallel("all", |section| {
            section
                .test("talks", act::talk)
                .test(LONG_NAME, |_| act::wait_for_file("go"))
                .test("waits", |_| act::wait_for_file("go"))
        }),
        "slow_teardown" => suite.test("test", passes).teardown(|testnet| {
            trace("tearing down")(testnet)?;
            hang()
        }),
        _ => return machines::suite(name, suite),
    })
}

#[expect(clippy::unnecessary_wraps, reason = "it stands where a test stands")]
fn passes(_: &Group) -> anyhow::Result<()> {
    Ok(())
}

fn nested(suite: Suite) -> Suite {
    suite.test("test", passes).parallel("more", |section| section.test("inside", passes))
}

/// One function for each way to end.
fn endings(suite: Suite) -> Suite {
    suite
        .test("passes", passes)
        .test("returns_an_error", |_| bail!("the cluster is not healthy"))
        .test("panics", |_| panic!("index out of nowhere"))
        .test("aborts", |_| std::process::abort())
        .test("overflows_its_stack", |_| {
            println!("{}", overflow(1));
            Ok(())
        })
        .test("exits_in_the_middle", |_| std::process::exit(0))
        .test("is_killed", |_| act::kill_myself())
        .test("passes_after_all_that", passes)
}

/// Three that may not run at once.
fn three(section: Section) -> Section {
    section.test("a", act::alone("a")).test("b", act::alone("b")).test("c", act::alone("c"))
}

/// So many that can pass only if they all run at once.
fn meeting(mut section: Section, count: usize) -> Section {
    for number in 0..count {
        section = section.test(format!("m{number}"), |_| meet());
    }
    section
}

/// Sequences side by side, in a sequence.
fn nesting(suite: Suite) -> Suite {
    suite
        .setup(trace("setup"))
        .test("first", trace("first"))
        .parallel("side", |side| {
            side.sequential("left", |left| {
                left.setup(trace("left setup"))
                    .test("l1", trace("l1"))
                    .test("l2", |_| bail!("in the middle"))
                    .test("l3", trace("l3"))
                    .teardown(trace("left teardown"))
            })
            .sequential("right", |right| right.test("r1", trace("r1")).test("r2", trace("r2")))
        })
        .test("last", trace("last"))
        .teardown(trace("teardown"))
}
