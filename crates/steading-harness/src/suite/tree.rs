//! A suite as numbered functions in numbered sections, for those who decide about order.

use std::collections::HashSet;
use std::ops::Index;

use steading_plan::text::{self, Shown};

use crate::suite::function::{Function, Role};
use crate::suite::section::{ForkFallback, Section, SectionMember, SectionOrder};

/// The longest name of a function with those of its sections, in bytes; far more than anybody reads.
const NAME_MAX: usize = 4096;

/// A function, by its place in [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FunctionId(pub(crate) usize);

/// A section, by its place in [`SuiteShape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SectionId(pub(crate) usize);

/// Where a function runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunsIn {
    /// In the group itself.
    Group,
    /// There, once it was kept as the setups of this section left it: the function changes it for
    /// tests of its own section, and others still have to begin with it as it was.
    After(SectionId),
    /// In a fork of its own of the group as the setups of this section left it.
    Fork(SectionId, ForkFallback),
}

/// What is in a section, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectionItem {
    Test(FunctionId),
    Section(SectionId),
}

/// One section.
#[derive(Clone, Debug)]
pub(crate) struct SectionShape {
    pub(crate) order: SectionOrder,
    pub(crate) setups: Vec<FunctionId>,
    pub(crate) items: Vec<SectionItem>,
    pub(crate) teardowns: Vec<FunctionId>,
}

/// Which function is where, without what it does. The first section is the whole suite.
#[derive(Clone, Debug, Default)]
pub(crate) struct SuiteShape {
    pub(crate) sections: Vec<SectionShape>,
    pub(crate) functions: usize,
}

impl SuiteShape {
    pub(crate) const ROOT: SectionId = SectionId(0);
}

impl Index<SectionId> for SuiteShape {
    type Output = SectionShape;

    fn index(&self, id: SectionId) -> &SectionShape {
        &self.sections[id.0]
    }
}

/// All functions of a suite, and their order.
pub(crate) struct Tree {
    functions: Vec<Function>,
    places: Vec<RunsIn>,
    /// Of each function: the setups before it, those of outer sections first.
    setups: Vec<Vec<FunctionId>>,
    pub(crate) shape: SuiteShape,
}

impl Index<FunctionId> for Tree {
    type Output = Function;

    fn index(&self, id: FunctionId) -> &Function {
        &self.functions[id.0]
    }
}

impl Tree {
    pub(crate) fn new(root: Section) -> Self {
        let mut tree = Self {
            functions: Vec::new(),
            places: Vec::new(),
            setups: Vec::new(),
            shape: SuiteShape::default(),
        };
        tree.add_section(root, None, &[]);
        tree.shape.functions = tree.functions.len();
        tree
    }

    /// `fork_point` is that of the section around it. A section with setups of its own has one of
    /// its own: its tests are to find what those did.
    fn add_section(
        &mut self,
        section: Section,
        fork_point: Option<(SectionId, ForkFallback)>,
        before: &[FunctionId],
    ) -> SectionId {
        let id = SectionId(self.shape.sections.len());
        let around = fork_point;
        let otherwise = section.forks_each.or(around.map(|(_, otherwise)| otherwise));
        let is_point = section.forks_each.is_some() || !section.setups.is_empty();
        let fork_point = match otherwise {
            Some(otherwise) if is_point => Some((id, otherwise)),
            _ => around,
        };
        let empty = SectionShape {
            order: section.order,
            setups: Vec::new(),
            items: Vec::new(),
            teardowns: Vec::new(),
        };
        self.shape.sections.push(empty);
        let place = around.map_or(RunsIn::Group, |(point, _)| RunsIn::After(point));
        let setups: Vec<FunctionId> =
            section.setups.into_iter().map(|setup| self.add(setup, place, before)).collect();
        let before = [before, &setups].concat();
        let place = fork_point.map_or(RunsIn::Group, |(point, otherwise)| RunsIn::Fork(point, otherwise));
        let mut items = Vec::new();
        for child in section.children {
            items.push(match child {
                SectionMember::Test(test) => SectionItem::Test(self.add(test, place, &before)),
                SectionMember::Section(section) => {
                    SectionItem::Section(self.add_section(section, fork_point, &before))
                }
            });
        }
        let teardowns = section
            .teardowns
            .into_iter()
            .map(|teardown| self.add(teardown, RunsIn::Group, &before))
            .collect();
        self.shape.sections[id.0] = SectionShape { order: section.order, setups, items, teardowns };
        id
    }

    fn add(&mut self, function: Function, place: RunsIn, before: &[FunctionId]) -> FunctionId {
        self.functions.push(function);
        self.places.push(place);
        self.setups.push(before.to_vec());
        FunctionId(self.functions.len() - 1)
    }

    /// Where the function runs.
    pub(crate) fn place(&self, id: FunctionId) -> RunsIn {
        self.places[id.0]
    }

    /// The setups before the function, in the order in which they run.
    pub(crate) fn setups(&self, id: FunctionId) -> &[FunctionId] {
        &self.setups[id.0]
    }

    /// Every function.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter()
    }

    /// The tests, in the order of declaration.
    pub(crate) fn tests(&self) -> impl Iterator<Item = FunctionId> {
        let is_test = |(_, function): &(usize, &Function)| function.role == Role::Test;
        self.functions.iter().enumerate().filter(is_test).map(|(index, _)| FunctionId(index))
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }

    /// What is wrong with the name of a function, if anything is: it stands in lists of which programs read each
    /// line, and is an argument of the process that runs the function.
    pub(crate) fn bad_name(&self) -> Option<String> {
        let wrong = |name: &str| {
            let why = match name.chars().find(|character| text::is_unsafe(*character) || *character == '\t') {
                _ if name.is_empty() || name.ends_with("::") => "has no name".to_owned(),
                Some(character) => format!("has the character {character:?} in its name"),
                None if name.len() > NAME_MAX => format!("has a name of {} bytes", name.len()),
                None => return None,
            };
            Some(format!(
                "a function of the suite {why}: {}\nhint: use 1 to {NAME_MAX} bytes of text without control characters",
                Shown(name)
            ))
        };
        self.functions.iter().find_map(|function| wrong(&function.name))
    }

    /// The first name that two functions share.
    pub(crate) fn duplicate(&self) -> Option<&str> {
        let mut seen = HashSet::new();
        self.functions.iter().map(|function| function.name.as_str()).find(|name| !seen.insert(*name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Group;

    #[expect(clippy::unnecessary_wraps, reason = "a test may fail")]
    fn nothing(_: &Group) -> anyhow::Result<()> {
        Ok(())
    }

    #[test]
    fn a_name_that_is_no_line_is_refused_with_what_is_wrong() {
        let bad = |name: &str| Tree::new(Section::root().test(name, nothing)).bad_name();
        for name in ["plain", "with blanks, and: signs", "é", &"x".repeat(300)] {
            assert_eq!(bad(name), None, "{name}");
        }
        for (name, said) in [
            ("a\nb", "has the character '\\n' in its name: \"a\\nb\""),
            ("a\tb", "has the character '\\t'"),
            ("\u{1b}[2J", "has the character '\\u{1b}'"),
            ("\u{202e}a", "has the character '\\u{202e}'"),
            ("", "has no name"),
            (&"x".repeat(5000), "has a name of 5000 bytes"),
        ] {
            let error = bad(name).unwrap_or_else(|| panic!("{name} was accepted"));
            assert!(error.contains(said) && error.contains("\nhint: "), "{error}");
        }
        let in_section = Section::root().sequential("a\rb", |section| section.test("c", nothing));
        assert!(Tree::new(in_section).bad_name().is_some());
    }

    #[test]
    fn a_test_is_forked_from_what_the_nearest_setups_left() {
        let root = Section::root().setup(nothing).test("in_group", nothing).parallel("forked", |forked| {
            forked
                .fork_each(ForkFallback::Skip)
                .test("first", nothing)
                .sequential("plain", |plain| plain.test("second", nothing))
                .sequential("deep", |deep| deep.setup(nothing).test("third", nothing).teardown(nothing))
        });
        let tree = Tree::new(root);
        let place = |name: &str| {
            let at = tree.functions.iter().position(|function| function.name == name).expect("declared");
            tree.place(FunctionId(at))
        };
        assert_eq!(place("setup"), RunsIn::Group);
        assert_eq!(place("in_group"), RunsIn::Group);
        let forked = SectionId(1);
        assert_eq!(place("forked::first"), RunsIn::Fork(forked, ForkFallback::Skip));
        assert_eq!(place("forked::plain::second"), RunsIn::Fork(forked, ForkFallback::Skip));
        assert_eq!(place("forked::deep::setup"), RunsIn::After(forked));
        assert_eq!(place("forked::deep::third"), RunsIn::Fork(SectionId(3), ForkFallback::Skip));
        assert_eq!(place("forked::deep::teardown"), RunsIn::Group);
        let third = tree.functions.iter().position(|function| function.name == "forked::deep::third");
        let setups = tree.setups(FunctionId(third.expect("declared")));
        let names: Vec<&str> = setups.iter().map(|id| tree[*id].name.as_str()).collect();
        assert_eq!(names, ["setup", "forked::deep::setup"]);
    }
}
