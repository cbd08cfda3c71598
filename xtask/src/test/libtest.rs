//! Reads counts and the names of failures from what tests say.

/// How many tests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Whose words are read.
enum Dialect {
    /// `test a::b ... FAILED`, and `test result: …` at the end: several times when cargo runs the
    /// doc tests of several packages.
    Libtest,
    /// `1 passed, 2 failed, 3 skipped`, last.
    Suite,
}

/// Reads the output of one executable, line by line.
pub(super) struct Reader {
    dialect: Dialect,
    counts: Option<Counts>,
    failures: Vec<String>,
    /// Within libtest's list of failures, which comes after their output.
    in_failures: bool,
}

impl Reader {
    pub(super) fn of_libtest() -> Reader {
        Reader { dialect: Dialect::Libtest, counts: None, failures: Vec::new(), in_failures: false }
    }

    pub(super) fn of_suite() -> Reader {
        Reader { dialect: Dialect::Suite, ..Reader::of_libtest() }
    }

    pub(super) fn read(&mut self, line: &str) {
        match self.dialect {
            Dialect::Libtest => self.read_libtest(line),
            Dialect::Suite => {
                if let Some(counts) = parse_final_line(line) {
                    self.counts = Some(counts);
                }
            }
        }
    }

    fn read_libtest(&mut self, line: &str) {
        if let Some(counts) = parse_test_result(line) {
            let mut sum = self.counts.unwrap_or_default();
            sum += counts;
            self.counts = Some(sum);
            self.in_failures = false;
        } else if line == "failures:" {
            self.in_failures = true;
        } else if self.in_failures {
            match line.strip_prefix("    ").filter(|name| is_test_name(name)) {
                Some(name) => self.failures.push(name.to_owned()),
                // Also libtest's first `failures:`, which is followed by their output.
                None => self.in_failures = line.is_empty() && self.failures.is_empty(),
            }
        }
    }

    /// The counts, if any were told, and the names of what failed.
    pub(super) fn end(self) -> (Option<Counts>, Vec<String>) {
        (self.counts, self.failures)
    }
}

/// `a::b` or, of doc tests, `src/lib.rs - a::b (line 7)`.
fn is_test_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(' ') && (!text.contains(' ') || text.contains(" (line "))
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; …`.
fn parse_test_result(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |part: Option<&str>, word: &str| part?.trim().strip_suffix(word)?.trim().parse().ok();
    let mut parts = numbers.split(';');
    Some(Counts {
        passed: number(parts.next(), "passed")?,
        failed: number(parts.next(), "failed")?,
        skipped: number(parts.next(), "ignored")?,
    })
}

/// Reads `1 passed, 2 failed, 3 skipped`.
fn parse_final_line(line: &str) -> Option<Counts> {
    let mut parts = line.trim().split(", ");
    let mut number = |word: &str| parts.next()?.strip_suffix(word)?.strip_suffix(' ')?.parse().ok();
    let counts = Counts { passed: number("passed")?, failed: number("failed")?, skipped: number("skipped")? };
    parts.next().is_none().then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBTEST: &str = "\
running 4 tests
test pure::a ... ok
test pure::b ... FAILED
test pure::c ... ignored

failures:

---- pure::b stdout ----

thread 'pure::b' panicked at src/lib.rs:3:9:
    indented output
failures:
    not a name: it has spaces

failures:
    pure::b
    src/lib.rs - Vm (line 7)

test result: FAILED. 2 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s
";

    fn read(mut reader: Reader, text: &str) -> (Option<Counts>, Vec<String>) {
        for line in text.lines() {
            reader.read(line);
        }
        reader.end()
    }

    #[test]
    fn failures_are_named_and_counted() {
        let (counts, failures) = read(Reader::of_libtest(), LIBTEST);
        assert_eq!(counts, Some(Counts { passed: 2, failed: 2, skipped: 1 }));
        assert_eq!(failures, ["pure::b", "src/lib.rs - Vm (line 7)"]);
    }

    #[test]
    fn the_results_of_several_packages_are_added() {
        let line = "test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out\n";
        let (counts, _) = read(Reader::of_libtest(), &line.repeat(3));
        assert_eq!(counts, Some(Counts { passed: 3, failed: 0, skipped: 6 }));
    }

    #[test]
    fn output_without_a_result_has_no_counts() {
        assert_eq!(read(Reader::of_libtest(), "running 1 test\n").0, None);
        assert_eq!(read(Reader::of_suite(), LIBTEST).0, None);
    }

    #[test]
    fn a_suite_tells_its_counts_in_its_last_such_line() {
        let text = "1 passed, 0 failed, 0 skipped\nmore\n5 passed, 1 failed, 2 skipped\n";
        assert_eq!(read(Reader::of_suite(), text).0, Some(Counts { passed: 5, failed: 1, skipped: 2 }));
        assert_eq!(parse_final_line("5 passed, 1 failed"), None);
        assert_eq!(parse_final_line("5 passed, 1 failed, 2 skipped, 3 lost"), None);
        assert_eq!(parse_final_line("5passed, 1 failed, 2 skipped"), None);
    }
}
