//! A suite as numbered functions in numbered sections, for those who decide about order.

use std::collections::HashSet;
use std::ops::Index;

use crate::suite::function::{Function, Role};
use crate::suite::section::{Child, Order, Section};

/// A function, by its place in [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FunctionId(pub(crate) usize);

/// A section, by its place in [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SectionId(pub(crate) usize);

/// What is in a section, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Test(FunctionId),
    Section(SectionId),
}

/// One section.
#[derive(Clone, Debug)]
pub(crate) struct SectionShape {
    pub(crate) order: Order,
    pub(crate) setups: Vec<FunctionId>,
    pub(crate) items: Vec<Item>,
    pub(crate) teardowns: Vec<FunctionId>,
}

/// Which function is where, without what it does. The first section is the whole suite.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) sections: Vec<SectionShape>,
    pub(crate) functions: usize,
}

impl Shape {
    pub(crate) const ROOT: SectionId = SectionId(0);
}

impl Index<SectionId> for Shape {
    type Output = SectionShape;

    fn index(&self, id: SectionId) -> &SectionShape {
        &self.sections[id.0]
    }
}

/// All functions of a suite, and their order.
pub(crate) struct Tree {
    functions: Vec<Function>,
    pub(crate) shape: Shape,
}

impl Index<FunctionId> for Tree {
    type Output = Function;

    fn index(&self, id: FunctionId) -> &Function {
        &self.functions[id.0]
    }
}

impl Tree {
    pub(crate) fn new(root: Section) -> Self {
        let mut tree = Self { functions: Vec::new(), shape: Shape::default() };
        tree.add_section(root);
        tree.shape.functions = tree.functions.len();
        tree
    }

    fn add_section(&mut self, section: Section) -> SectionId {
        let id = SectionId(self.shape.sections.len());
        let empty = SectionShape {
            order: section.order,
            setups: Vec::new(),
            items: Vec::new(),
            teardowns: Vec::new(),
        };
        self.shape.sections.push(empty);
        let setups = section.setups.into_iter().map(|setup| self.add(setup)).collect();
        let mut items = Vec::new();
        for child in section.children {
            items.push(match child {
                Child::Test(test) => Item::Test(self.add(test)),
                Child::Section(section) => Item::Section(self.add_section(section)),
            });
        }
        let teardowns = section.teardowns.into_iter().map(|teardown| self.add(teardown)).collect();
        self.shape.sections[id.0] = SectionShape { order: section.order, setups, items, teardowns };
        id
    }

    fn add(&mut self, function: Function) -> FunctionId {
        self.functions.push(function);
        FunctionId(self.functions.len() - 1)
    }

    /// The tests, in the order of declaration.
    pub(crate) fn tests(&self) -> impl Iterator<Item = FunctionId> {
        let is_test = |(_, function): &(usize, &Function)| function.role == Role::Test;
        self.functions.iter().enumerate().filter(is_test).map(|(index, _)| FunctionId(index))
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }

    /// The first name that two functions share.
    pub(crate) fn duplicate(&self) -> Option<&str> {
        let mut seen = HashSet::new();
        self.functions.iter().map(|function| function.name.as_str()).find(|name| !seen.insert(*name))
    }
}
