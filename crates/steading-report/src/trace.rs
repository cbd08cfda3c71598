//! A timeline in the trace event format, which Perfetto and Chromium show.

use serde_json::{Value, json};

use crate::timeline::{Span, Timeline};

/// The JSON object format; times are in microseconds.
pub(crate) fn render(timeline: &Timeline) -> Value {
    let mut events = Vec::new();
    let rows = timeline.lanes.iter().flat_map(|lane| {
        // A lane in which nothing happened has a row all the same.
        let rows = apart(&lane.spans);
        let rows = if rows.is_empty() { vec![Vec::new()] } else { rows };
        (1..).zip(rows).map(|(number, row): (u32, _)| match number {
            1 => (lane.name.clone(), row),
            number => (format!("{} ({number})", lane.name), row),
        })
    });
    // The kernel's idle task has 0, and readers leave it out.
    for (number, (name, row)) in (1..).zip(rows) {
        let (number, name): (u32, _) = (number, json!({"name": name}));
        events.push(json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": name}));
        events.push(json!({"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": number, "args": {"sort_index": number}}));
        for span in row {
            events.push(json!({
                "ph": "X", "pid": 1, "tid": number, "name": span.name, "cat": span.class,
                "ts": micros(span.start), "dur": micros(span.end - span.start).max(0), "args": {"detail": span.detail},
            }));
        }
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"began": timeline.began.to_string()}})
}

const fn micros(millis: i64) -> i64 {
    millis.saturating_mul(1000)
}

/// The spans in as many rows as run at once at most, each where nothing of the row runs.
///
/// Slices of one thread must nest: readers show one that overlaps another in part wrongly, or not at all. And tests that
/// run side by side are not parts of each other, so they do not even nest.
fn apart(spans: &[Span]) -> Vec<Vec<&Span>> {
    let mut sorted: Vec<&Span> = spans.iter().collect();
    sorted.sort_by_key(|span| (span.start, span.end));
    let mut rows: Vec<Vec<&Span>> = Vec::new();
    for span in sorted {
        let is_free = |row: &&mut Vec<&Span>| row.last().is_none_or(|last| last.end <= span.start);
        match rows.iter_mut().find(is_free) {
            Some(row) => row.push(span),
            None => rows.push(vec![span]),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::timeline::Lane;

    /// Complete events by their thread, as pairs of beginning and end.
    fn slices(trace: &Value) -> BTreeMap<u64, Vec<(i64, i64)>> {
        let mut threads: BTreeMap<u64, Vec<(i64, i64)>> = BTreeMap::new();
        for event in trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X") {
            let (start, length) = (event["ts"].as_i64().unwrap(), event["dur"].as_i64().unwrap());
            threads.entry(event["tid"].as_u64().unwrap()).or_default().push((start, start + length));
        }
        threads
    }

    proptest! {
        #[test]
        fn slices_of_a_thread_never_overlap_whatever_runs_at_once(
            lanes in prop::collection::vec(prop::collection::vec((0_i64..50, 0_i64..20), 0..20), 1..4),
        ) {
            let span = |(start, length)| Span { name: "t".to_owned(), class: "on", start, end: start + length, detail: String::new() };
            let lane = |spans: &Vec<(i64, i64)>| Lane { name: "n".to_owned(), spans: spans.iter().copied().map(span).collect() };
            let timeline = Timeline { began: Timestamp::UNIX_EPOCH, length: 70, lanes: lanes.iter().map(lane).collect() };
            let threads = slices(&render(&timeline));
            prop_assert_eq!(threads.values().flatten().count(), lanes.iter().flatten().count());
            for slices in threads.values() {
                let ends_before = |pair: &[(i64, i64)]| pair[0].1 <= pair[1].0;
                prop_assert!(slices.windows(2).all(ends_before), "{:?}", slices);
            }
            // No more threads than there are things at once.
            let at_once = |spans: &Vec<(i64, i64)>| {
                let runs = |at: i64| spans.iter().filter(|(start, length)| (*start..start + length.max(&1)).contains(&at)).count();
                (0..70).map(runs).max().unwrap_or(0)
            };
            prop_assert!(threads.len() <= lanes.iter().map(at_once).sum());
        }
    }

    #[test]
    fn tests_of_a_parallel_section_and_concurrent_faults_have_a_lane_each() {
        let span = |name: &str, start, end| Span {
            name: name.to_owned(),
            class: "passed",
            start,
            end,
            detail: String::new(),
        };
        let lane = Lane {
            name: "driver".to_owned(),
            spans: vec![span("a", 0, 10), span("b", 5, 15), span("c", 10, 12)],
        };
        let timeline = Timeline { began: Timestamp::UNIX_EPOCH, length: 15, lanes: vec![lane] };
        let trace = render(&timeline);
        assert_eq!(
            slices(&trace),
            BTreeMap::from([(1, vec![(0, 10_000), (10_000, 12_000)]), (2, vec![(5_000, 15_000)])])
        );
        let names: Vec<&Value> = trace["traceEvents"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["name"] == "thread_name")
            .map(|event| &event["args"]["name"])
            .collect();
        assert_eq!(names, ["driver", "driver (2)"]);
    }

    #[test]
    fn a_span_is_a_complete_event_in_the_thread_of_its_lane() {
        let span = Span { name: "boot 1".to_owned(), class: "on", start: 2, end: 5, detail: String::new() };
        let lane = Lane { name: "n1".to_owned(), spans: vec![span] };
        let timeline = Timeline { began: Timestamp::UNIX_EPOCH, length: 9, lanes: vec![lane] };
        let trace = render(&timeline);
        assert_eq!(trace["traceEvents"][0]["args"]["name"], "n1");
        let event = &trace["traceEvents"][2];
        assert_eq!((&event["ph"], &event["ts"], &event["dur"]), (&json!("X"), &json!(2000), &json!(3000)));
    }
}
