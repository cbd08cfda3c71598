//! Documented items of a Rust source. This is no parser: it relies on rustfmt's layout, in which what
//! belongs to an item is indented by four, and a comment stands right before what it is about.

use anyhow::Context as _;

/// Something with a name and a documentation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: String,
    /// In one line.
    pub(super) about: String,
    /// A constant's, as it is written; of a field, its type.
    pub(super) value: String,
    /// The fields of a variant.
    pub(super) fields: Vec<Item>,
}

/// Constants that stand together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// From the line `// ## …` above them; empty if there is none.
    pub(super) title: String,
    pub(super) constants: Vec<Item>,
}

/// The public constants of a module, in their order.
pub(super) fn constants(source: &str) -> Vec<Group> {
    let mut groups = vec![Group { title: String::new(), constants: Vec::new() }];
    let mut about = Documentation::default();
    for line in source.lines() {
        if let Some(title) = line.strip_prefix("// ## ") {
            groups.push(Group { title: title.to_owned(), constants: Vec::new() });
        } else if let Some((name, value)) = line.strip_prefix("pub const ").and_then(constant) {
            let made =
                Item { name: name.to_owned(), value: value.to_owned(), about: about.take(), fields: vec![] };
            groups.last_mut().expect("there is one from the beginning").constants.push(made);
        } else {
            about.read(line);
        }
    }
    groups.retain(|group| !group.constants.is_empty());
    groups
}

/// Reads `NAME: u8 = 3;`.
fn constant(rest: &str) -> Option<(&str, &str)> {
    let (name, rest) = rest.split_once(": ")?;
    let (_, value) = rest.split_once(" = ")?;
    Some((name, value.strip_suffix(';')?.trim_matches('"')))
}

/// The fields of a struct, or the variants of an enum with their fields.
///
/// # Errors
///
/// When there is no such item.
pub(super) fn members(source: &str, name: &str) -> anyhow::Result<Vec<Item>> {
    let begins = |line: &&str| {
        ["struct", "enum"].iter().any(|kind| {
            let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            line.strip_prefix(kind) == Some(&format!(" {name} {{"))
        })
    };
    let lines: Vec<&str> = source.lines().skip_while(|line| !begins(line)).collect();
    let body = lines.split_first().with_context(|| format!("no source of the reference has a {name}"))?.1;
    let mut members: Vec<Item> = Vec::new();
    let (mut about, mut about_field) = (Documentation::default(), Documentation::default());
    for line in body.iter().take_while(|line| **line != "}") {
        if let Some(line) = line.strip_prefix("        ") {
            match (member(line), members.last_mut()) {
                (Some(field), Some(variant)) => variant.fields.push(about_field.complete(field)),
                _ => about_field.read(line),
            }
        } else if let Some(line) = line.strip_prefix("    ") {
            match member(line) {
                Some(found) => members.push(about.complete(found)),
                None => about.read(line),
            }
        }
    }
    Ok(members)
}

/// `name: Type,`, `Variant,`, `Variant {`, `Variant(Type),`.
fn member(line: &str) -> Option<Item> {
    let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let (name, rest) = line.split_at(end);
    let value = rest.strip_prefix(": ").map(|rest| rest.trim_end_matches(','));
    let is_member =
        value.is_some() || [",", " {"].contains(&rest) || (rest.starts_with('(') && rest.ends_with("),"));
    (is_member && !name.is_empty()).then(|| Item {
        name: name.to_owned(),
        value: value.unwrap_or_default().to_owned(),
        ..Item::default()
    })
}

/// Lines of `///`, until they are taken, or something else shows that they belonged elsewhere.
#[derive(Default)]
struct Documentation {
    lines: Vec<String>,
    /// The name that serde reads and writes, where an attribute gives it.
    renamed: Option<String>,
}

impl Documentation {
    fn read(&mut self, line: &str) {
        if let Some(text) = line.strip_prefix("///") {
            self.lines.push(text.trim().to_owned());
        } else if line.starts_with("#[") {
            // Not those of schemars: they rename types.
            let attribute = line.strip_prefix("#[serde(").and_then(|rest| rest.split_once("rename = \""));
            let name = attribute.and_then(|(_, rest)| rest.split_once('"'));
            self.renamed = name.map(|(name, _)| name.to_owned()).or(self.renamed.take());
        } else {
            self.lines.clear();
            self.renamed = None;
        }
    }

    /// The item with what was read of it.
    fn complete(&mut self, item: Item) -> Item {
        let name = self.renamed.take().unwrap_or(item.name);
        Item { name, about: self.take(), ..item }
    }

    fn take(&mut self) -> String {
        std::mem::take(&mut self.lines).join(" ").trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "//! Module.\n\n/// First,\n/// second line.\npub const A: u8 = 1;\n\n// ## More\n\n\
                          /// Third.\npub const B: &str = \"B_B\";\n/// Hidden.\npub(crate) const C: u8 = 3;\n\
                          pub const D: u8 = 4;\n";

    #[test]
    fn constants_are_read_with_their_documentation_and_sections() {
        let groups = constants(MODULE);
        assert_eq!(groups.len(), 2);
        let first = &groups[0].constants[0];
        assert_eq!((first.name.as_str(), first.value.as_str()), ("A", "1"));
        assert_eq!(first.about, "First, second line.");
        let more: Vec<_> = groups[1].constants.iter().map(|c| (c.value.as_str(), c.about.as_str())).collect();
        assert_eq!((groups[1].title.as_str(), more), ("More", vec![("B_B", "Third."), ("4", "")]));
    }

    const TYPES: &str = "/// An event.\n#[derive(Debug)]\npub enum Event {\n    /// It is on.\n    On {\n        \
                         /// How often.\n        boot: u32,\n    },\n    /// It is off.\n    Off,\n    /// It holds.\n    \
                         Held(Failure),\n}\n\nstruct Row {\n    /// The name.\n    #[serde(default)]\n    \
                         pub name: Option<String>,\n    /// The rows.\n    #[serde(default, rename = \"row\")]\n    \
                         #[schemars(with = \"Vec<String>\")]\n    rows: Vec<Row>,\n    last: u8,\n}\n";

    #[test]
    fn variants_are_read_with_their_fields_and_fields_with_their_types() {
        let variants = members(TYPES, "Event").unwrap();
        let names: Vec<_> = variants.iter().map(|v| (v.name.as_str(), v.about.as_str())).collect();
        assert_eq!(names, [("On", "It is on."), ("Off", "It is off."), ("Held", "It holds.")]);
        assert_eq!(variants[0].fields[0].about, "How often.");
        let fields = members(TYPES, "Row").unwrap();
        assert_eq!((fields[0].name.as_str(), fields[0].value.as_str()), ("name", "Option<String>"));
        assert_eq!(fields[0].about, "The name.");
    }

    #[test]
    fn a_field_has_the_name_by_which_it_is_parsed() {
        let names: Vec<String> = members(TYPES, "Row").unwrap().into_iter().map(|field| field.name).collect();
        assert_eq!(names, ["name", "row", "last"]);
    }

    #[test]
    fn an_item_that_is_gone_is_an_error() {
        assert_eq!(members(TYPES, "Ev").unwrap_err().to_string(), "no source of the reference has a Ev");
    }
}
