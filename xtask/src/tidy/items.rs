//! What a Rust source defines and names, without its tests.

use proc_macro2::Span;
use quote::ToTokens as _;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Ident, Item, Path, UseTree, Visibility};

/// A path that a source names, as written: `crate`, `super` or the name of a crate comes first.
pub(super) type NamedPath = Vec<String>;

/// The items of one source.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// Names of items that it defines, at any depth.
    pub(super) defined: Vec<String>,
    /// Modules that it declares, whose contents are in files of their own.
    pub(super) modules: Vec<String>,
    /// Names that it imports for itself or for others, each with its path.
    pub(super) imported: Vec<(String, NamedPath)>,
    /// Paths that begin with `crate`, `self` or `super`, in code.
    pub(super) named: Vec<NamedPath>,
    /// Types and traits that others can see, each with its line.
    pub(super) types: Vec<(String, usize)>,
    /// Functions, each with its first line and its length in lines.
    pub(super) functions: Vec<(String, usize, usize)>,
}

impl Items {
    /// Those of this source; none if it is no Rust.
    pub(super) fn of(source: &str) -> Option<Self> {
        let file = syn::parse_file(source).ok()?;
        let mut items = Self::default();
        if !is_for_tests(&file.attrs) {
            items.visit_file(&file);
        }
        Some(items)
    }

    fn import(&mut self, tree: &UseTree, before: &[String]) {
        let with = |ident: &Ident| [before, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(&path.ident)),
            // `use a::b::{self}` imports `b`.
            UseTree::Name(name) if name.ident == "self" => {
                self.imported.extend(before.last().map(|last| (last.clone(), before.to_vec())));
            }
            UseTree::Name(name) => self.imported.push((name.ident.to_string(), with(&name.ident))),
            UseTree::Rename(rename) => {
                self.imported.push((rename.rename.to_string(), with(&rename.ident)));
            }
            UseTree::Glob(_) => self.imported.push(("*".to_owned(), before.to_vec())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before)),
        }
    }

    fn function(&mut self, name: &Ident, span: Span) {
        let (first, last) = (span.start().line, span.end().line);
        self.functions.push((name.to_string(), first, last + 1 - first));
    }
}

impl<'ast> Visit<'ast> for Items {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name, visibility) = match item {
            Item::Const(item) => (&item.attrs, &item.ident, None),
            Item::Enum(item) => (&item.attrs, &item.ident, Some(&item.vis)),
            Item::Fn(item) => (&item.attrs, &item.sig.ident, None),
            Item::Mod(item) => (&item.attrs, &item.ident, None),
            Item::Static(item) => (&item.attrs, &item.ident, None),
            Item::Struct(item) => (&item.attrs, &item.ident, Some(&item.vis)),
            Item::Trait(item) => (&item.attrs, &item.ident, Some(&item.vis)),
            Item::Type(item) => (&item.attrs, &item.ident, Some(&item.vis)),
            Item::Use(item) if !is_for_tests(&item.attrs) => return self.import(&item.tree, &[]),
            Item::Impl(item) if is_for_tests(&item.attrs) => return,
            other => return visit::visit_item(self, other),
        };
        if is_for_tests(attributes) {
            return;
        }
        if visibility.is_some_and(|visibility| !matches!(visibility, Visibility::Inherited)) {
            self.types.push((name.to_string(), name.span().start().line));
        }
        match item {
            Item::Mod(module) if module.content.is_none() => self.modules.push(name.to_string()),
            Item::Fn(function) => {
                self.defined.push(name.to_string());
                self.function(name, function.span());
                visit::visit_item(self, item);
            }
            _ => {
                self.defined.push(name.to_string());
                visit::visit_item(self, item);
            }
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            self.function(&function.sig.ident, function.span());
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.import(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 && ["crate", "self", "super"].contains(&segments[0].as_str()) {
            self.named.push(segments);
        }
        visit::visit_path(self, path);
    }
}

/// `#[cfg(test)]` and the like, and `#[test]`.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let tokens = attribute.meta.to_token_stream().to_string();
        tokens == "test" || (tokens.starts_with("cfg") && tokens.contains("test") && !tokens.contains("not"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_what_it_defines_and_names_without_its_tests() {
        let source = "use crate::a::{self, B, c::D as E};\nmod inside;\npub struct S;\nstruct Hidden;\n\
                      fn f() {\n    crate::x::y();\n}\n#[cfg(test)]\nmod tests {\n    use crate::z::Z;\n}\n";
        let items = Items::of(source).unwrap();
        let paths: Vec<String> =
            items.imported.iter().map(|(name, path)| format!("{name}={}", path.join("::"))).collect();
        assert_eq!(paths, ["a=crate::a", "B=crate::a::B", "E=crate::a::c::D"]);
        assert_eq!(items.modules, ["inside"]);
        assert_eq!(items.types, [("S".to_owned(), 3)]);
        assert_eq!(items.defined, ["S", "Hidden", "f"]);
        assert_eq!(items.named, [["crate", "x", "y"]]);
        assert_eq!(items.functions, [("f".to_owned(), 5, 3)]);
    }
}
