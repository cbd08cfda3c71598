//! A timeline in the trace event format, which Perfetto and Chromium show.

use serde_json::{Value, json};

use crate::timeline::Timeline;

/// The JSON object format; times are in microseconds.
pub(crate) fn render(timeline: &Timeline) -> Value {
    let mut events = Vec::new();
    for (number, lane) in timeline.lanes.iter().enumerate() {
        let name = json!({"name": lane.name});
        events.push(json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": name}));
        events.push(json!({"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": number, "args": {"sort_index": number}}));
        for span in &lane.spans {
            events.push(json!({
                "ph": "X", "pid": 1, "tid": number, "name": span.name, "cat": span.class,
                "ts": span.start * 1000, "dur": (span.end - span.start) * 1000, "args": {"detail": span.detail},
            }));
        }
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"began": timeline.began.to_string()}})
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::timeline::{Lane, Span};

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
