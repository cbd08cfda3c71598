//! The records of the group's log that concern people: what happens to VMs, and problems.

use std::collections::HashSet;

use steading_api::{Client, ClientError, Lines};
use steading_logs::{Record, Stream, VmEvent, WARNING};
use steading_report::{Report, VmSign};
use tokio::time::timeout_at;

/// What is reported to people as it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Something happened to a VM.
    Vm(String, VmSign),
    /// The owner complains about itself, or a guest's kernel does.
    Problem(String),
}

/// The problems that were reported. An owner may repeat at its end what it reported before.
#[derive(Debug, Default)]
pub(crate) struct ReportedProblems(HashSet<String>);

impl ReportedProblems {
    /// Remembers a problem; whether it is news.
    pub(crate) fn add(&mut self, problem: &str) -> bool {
        self.0.insert(steading_group::in_a_line(problem))
    }
}

/// Waits for something, and meanwhile lets the seconds pass that stand on a screen.
pub(crate) async fn redrawing<T>(report: &Report, awaited: impl Future<Output = T>) -> T {
    let mut awaited = std::pin::pin!(awaited);
    loop {
        let Some(at) = report.redraw_at() else { return awaited.await };
        match timeout_at(at.into(), &mut awaited).await {
            Ok(come) => return come,
            Err(_) => report.redraw(),
        }
    }
}

/// The group's records, as news.
pub(crate) struct Watch {
    records: Lines<serde_json::Value>,
    sieve: NewsFilter,
}

/// Knows which VMs have spoken in their present boot: their consoles say much, and the first word
/// is news.
#[derive(Debug, Default)]
struct NewsFilter {
    spoken: HashSet<String>,
}

impl Watch {
    /// Listens from now on.
    pub(crate) async fn begin(client: &Client) -> Result<Self, ClientError> {
        Ok(Self { records: client.records().await?, sieve: NewsFilter::default() })
    }

    /// What comes next; none when the owner has ended. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<News> {
        while let Ok(Some(record)) = self.records.next().await {
            // One of another version is none of those that are waited for.
            let Ok(record) = serde_json::from_value::<Record>(record) else { continue };
            if let Some(news) = self.sieve.take(record) {
                return Some(news);
            }
        }
        None
    }
}

impl NewsFilter {
    fn take(&mut self, record: Record) -> Option<News> {
        let Record { stream, vm, event, priority, message, .. } = record;
        let vm = vm.map(|vm| vm.to_string());
        match (stream, vm, event) {
            (Stream::Console, Some(vm), _) => {
                self.spoken.insert(vm.clone()).then_some(News::Vm(vm, VmSign::Spoke))
            }
            (Stream::Driver, Some(vm), Some(event)) => {
                if let VmEvent::On { .. } = event {
                    self.spoken.remove(&vm);
                }
                Some(News::Vm(vm, VmSign::Event(event)))
            }
            (Stream::Driver, vm, None) if priority.is_some_and(|priority| priority <= WARNING) => {
                Some(News::Problem(vm.map_or_else(|| message.clone(), |vm| format!("VM {vm}: {message}"))))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stream: Stream, vm: Option<&str>, event: Option<VmEvent>) -> Record {
        let vm = vm.map(|vm| vm.parse().unwrap());
        Record { event, ..Record::new(jiff::Timestamp::UNIX_EPOCH, vm, stream, "said") }
    }

    #[test]
    fn the_first_word_of_each_boot_is_news() {
        let mut sieve = NewsFilter::default();
        let spoke = Some(News::Vm("a".to_owned(), VmSign::Spoke));
        let console = || record(Stream::Console, Some("a"), None);
        assert_eq!(sieve.take(console()), spoke);
        assert_eq!(sieve.take(console()), None);
        let on = VmEvent::On { boot: 2 };
        let told = sieve.take(record(Stream::Driver, Some("a"), Some(on.clone())));
        assert_eq!(told, Some(News::Vm("a".to_owned(), VmSign::Event(on))));
        assert_eq!(sieve.take(console()), spoke);
    }

    #[test]
    fn a_problem_is_news_once_in_however_many_lines_it_is() {
        let mut told = ReportedProblems::default();
        assert!(told.add("cannot write\nhint: free some space"));
        assert!(!told.add("cannot write; hint: free some space"));
        assert!(told.add("cannot read"));
    }

    #[test]
    fn of_the_driver_s_words_warnings_are_news() {
        let mut sieve = NewsFilter::default();
        let warning = |vm| Record { priority: Some(WARNING), ..record(Stream::Driver, vm, None) };
        assert_eq!(sieve.take(warning(Some("a"))), Some(News::Problem("VM a: said".to_owned())));
        assert_eq!(sieve.take(warning(None)), Some(News::Problem("said".to_owned())));
        assert_eq!(sieve.take(record(Stream::Driver, Some("a"), None)), None);
        assert_eq!(sieve.take(record(Stream::Journal, Some("a"), None)), None);
    }
}
