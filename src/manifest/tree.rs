//! YAML as a tree in which every node knows where it is written and scalars keep the text as written.
//!
//! serde stops at the first error and resolves `2.40` to a number; both are wrong for files that people write
//! by hand, so the tree is built from the parser's events and decoded by [`super::decode`].

use std::collections::HashMap;
use std::sync::Arc;

use serde_saphyr::granit_parser::{
    ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag, options,
};

use crate::manifest::place::{At, Place, Source};
use crate::manifest::problem::{Problem, Problems};

/// Nodes of a document with every alias written out: a bomb is refused before anybody walks it.
const MAX_NODES: usize = 100_000;
/// Levels with every alias written out. Far below what recursion can take.
const MAX_DEPTH: usize = 128;

/// A node of a document. Aliases share the node they name, so that a tree is never larger than its file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    nodes: usize,
    depth: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Nothing is written.
    Empty,
    /// `null` or `~` is written.
    Null,
    Scalar {
        /// Escapes and folding resolved, otherwise as written.
        text: String,
        /// Not quoted and not a block: it may mean a number or a boolean.
        plain: bool,
    },
    List(Vec<Arc<Node>>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: At<String>,
    pub(crate) value: Arc<Node>,
}

impl Node {
    /// What the node is, for messages.
    pub(crate) fn what(&self) -> &'static str {
        match &self.kind {
            Kind::Empty => "nothing",
            Kind::Null => "null",
            Kind::Scalar { .. } => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// Where to point when something is wrong with the node as such: a mapping begins with its first key.
    pub(crate) fn head(&self) -> &Place {
        match &self.kind {
            Kind::Map(entries) => entries.first().map_or(&self.place, |e| &e.key.place),
            Kind::List(items) => items.first().map_or(&self.place, |item| item.head()),
            Kind::Empty | Kind::Null | Kind::Scalar { .. } => &self.place,
        }
    }

    /// The value of a key of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Self>> {
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .find(|e| e.key.value == key)
                .map(|e| &e.value),
            Kind::Empty | Kind::Null | Kind::Scalar { .. } | Kind::List(_) => None,
        }
    }
}

/// Reads the one document of a file. Duplicate keys are added to `problems`, and the first one counts; after a syntax error there is
/// no tree.
pub(crate) fn parse(source: &Arc<Source>, problems: &mut Problems) -> Option<Arc<Node>> {
    let mut builder = Builder {
        source,
        anchors: HashMap::new(),
        problems,
    };
    match builder.document() {
        Ok(node) => node,
        Err(problem) => {
            problems.push(*problem);
            None
        }
    }
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    anchors: HashMap<usize, Arc<Node>>,
    problems: &'a mut Problems,
}

/// A collection that is still open.
enum Open {
    List {
        place: Place,
        anchor: usize,
        items: Vec<Arc<Node>>,
    },
    Map {
        place: Place,
        anchor: usize,
        entries: Vec<(Arc<Node>, Arc<Node>)>,
        key: Option<Arc<Node>>,
    },
}

impl Builder<'_> {
    fn document(&mut self) -> Result<Option<Arc<Node>>, Box<Problem>> {
        let options = options! { emit_comments: false };
        let mut open: Vec<Open> = Vec::new();
        let mut root = None;
        let source = Arc::clone(self.source);
        for event in Parser::new_from_str_with_options(&source.text, options) {
            let (event, span) = event.map_err(|e| Box::new(self.syntax(&e)))?;
            let done = match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Anchor(..) => {
                    None
                }
                Event::DocumentStart(..) => {
                    if root.is_some() {
                        return Err(Box::new(
                            self.place(&span)
                                .problem("a second document begins here")
                                .help("write one document a file"),
                        ));
                    }
                    None
                }
                Event::Alias(id) => Some(self.alias(id, &span)?),
                Event::UnresolvedAlias(name) => {
                    return Err(Box::new(
                        self.place(&span).problem(format!("no anchor `&{name}`")),
                    ));
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let node = self.scalar(&text, style, tag.as_deref(), &span);
                    Some(self.keep(node, anchor))
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.refuse_tag(tag.as_deref(), &span);
                    open.push(Open::List {
                        place: self.place(&span),
                        anchor,
                        items: Vec::new(),
                    });
                    None
                }
                Event::MappingStart(_, anchor, tag) => {
                    self.refuse_tag(tag.as_deref(), &span);
                    open.push(Open::Map {
                        place: self.place(&span),
                        anchor,
                        entries: Vec::new(),
                        key: None,
                    });
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                    Some(collection) => Some(self.close(collection)?),
                    None => None,
                },
                // Anchors by name and comments: the parser was told not to send them.
                _ => None,
            };
            let Some(node) = done else { continue };
            match open.last_mut() {
                None => root = Some(node),
                Some(Open::List { items, .. }) => items.push(node),
                Some(Open::Map { entries, key, .. }) => match key.take() {
                    None => *key = Some(node),
                    Some(key) => entries.push((key, node)),
                },
            }
        }
        Ok(root)
    }

    fn place(&self, span: &Span) -> Place {
        Place::new(
            self.source,
            span.start.line(),
            span.start.col() + 1,
            span.start.byte_offset().unwrap_or_default(),
            span.end.byte_offset().unwrap_or_default(),
        )
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let at = error.marker();
        let offset = at.byte_offset().unwrap_or_default();
        let place = Place::new(self.source, at.line(), at.col() + 1, offset, offset);
        if let ErrorKind::UnknownAnchor = error.kind() {
            return place
                .problem("this alias names no anchor above it")
                .help("write `&name` in front of the part that `*name` repeats");
        }
        place
            .problem(format!("this is not YAML: {}", error.info()))
            .help("text with one of `[ ] { } , # & * ! | > % @` or `: ` in it must stand in quotes, and indentation is made of spaces")
    }

    fn alias(&self, id: usize, span: &Span) -> Result<Arc<Node>, Box<Problem>> {
        let place = self.place(span);
        match self.anchors.get(&id) {
            // The place stays the definition's: an error in a shared part is an error there.
            Some(node) => Ok(Arc::clone(node)),
            None => Err(Box::new(
                place.problem("this alias stands inside what it names"),
            )),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Node {
        self.refuse_tag(tag, span);
        let place = self.place(span);
        let forced = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
        let plain = style == ScalarStyle::Plain && !forced;
        let written = span.slice(&self.source.text).unwrap_or_default();
        let kind = match text {
            _ if !plain => Kind::Scalar {
                text: text.to_owned(),
                plain,
            },
            _ if written.is_empty() => Kind::Empty,
            "~" | "null" | "Null" | "NULL" => Kind::Null,
            _ => Kind::Scalar {
                text: text.to_owned(),
                plain,
            },
        };
        Node {
            place,
            kind,
            nodes: 1,
            depth: 1,
        }
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: &Span) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            let place = span
                .tag_span()
                .map_or_else(|| self.place(span), |tag| self.place(&tag));
            self.problems.push(
                place
                    .problem(format!("the tag `!{}` has no meaning here", tag.suffix()))
                    .help("remove it; tags are not used in these files"),
            );
        }
    }

    fn keep(&mut self, node: Node, anchor: usize) -> Arc<Node> {
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        node
    }

    fn close(&mut self, collection: Open) -> Result<Arc<Node>, Box<Problem>> {
        let (place, anchor, kind) = match collection {
            Open::List {
                place,
                anchor,
                items,
            } => (place, anchor, Kind::List(items)),
            Open::Map {
                place,
                anchor,
                entries,
                ..
            } => (place, anchor, Kind::Map(self.entries(entries))),
        };
        let children: Vec<&Arc<Node>> = match &kind {
            Kind::List(items) => items.iter().collect(),
            Kind::Map(entries) => entries.iter().map(|e| &e.value).collect(),
            Kind::Empty | Kind::Null | Kind::Scalar { .. } => Vec::new(),
        };
        let nodes = children
            .iter()
            .fold(1usize, |sum, child| sum.saturating_add(child.nodes));
        let depth = 1 + children.iter().map(|child| child.depth).max().unwrap_or(0);
        if nodes > MAX_NODES || depth > MAX_DEPTH {
            return Err(Box::new(place.problem(format!(
                "with its aliases written out this has more than {MAX_NODES} nodes or {MAX_DEPTH} levels"
            ))));
        }
        Ok(self.keep(
            Node {
                place,
                kind,
                nodes,
                depth,
            },
            anchor,
        ))
    }

    /// Checks the keys and unfolds `<<`: what is written in the mapping itself wins, then the earlier of the
    /// merged ones.
    fn entries(&mut self, pairs: Vec<(Arc<Node>, Arc<Node>)>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
        let mut merged: Vec<Arc<Node>> = Vec::new();
        let mut merge_at: Option<Place> = None;
        for (key, value) in pairs {
            let (text, plain) = match &key.kind {
                Kind::Scalar { text, plain } => (text.clone(), *plain),
                Kind::Null => ("null".to_owned(), true),
                Kind::Empty | Kind::List(_) | Kind::Map(_) => {
                    self.problems.push(
                        key.place
                            .problem(format!("a key must be text, this is {}", key.what())),
                    );
                    continue;
                }
            };
            let earlier = if plain && text == "<<" {
                merge_at.as_ref()
            } else {
                entries
                    .iter()
                    .find(|entry| entry.key.value == text)
                    .map(|entry| &entry.key.place)
            };
            if let Some(earlier) = earlier {
                let line = earlier.location().line;
                self.problems.push(key.place.problem(format!(
                    "duplicate key `{text}`, first written in line {line}"
                )));
                continue;
            }
            if plain && text == "<<" {
                merge_at = Some(key.place.clone());
                match &value.kind {
                    Kind::List(items) => merged.extend(items.iter().cloned()),
                    Kind::Empty | Kind::Null | Kind::Scalar { .. } | Kind::Map(_) => {
                        merged.push(value);
                    }
                }
                continue;
            }
            entries.push(Entry {
                key: At::new(text, key.place.clone()),
                value,
            });
        }
        for node in merged {
            let Kind::Map(more) = &node.kind else {
                self.problems.push(
                    node.place
                        .problem(format!("`<<` merges mappings, this is {}", node.what())),
                );
                continue;
            };
            for entry in more {
                if entries.iter().all(|e| e.key.value != entry.key.value) {
                    entries.push(entry.clone());
                }
            }
        }
        entries
    }
}

/// The same tree with every scalar's text passed through `f` (keys are left alone). `None` keeps the text.
pub(crate) fn map_scalars(
    node: &Arc<Node>,
    f: &mut impl FnMut(&str, &Place) -> Option<String>,
) -> Arc<Node> {
    let kind = match &node.kind {
        Kind::Empty | Kind::Null => return Arc::clone(node),
        Kind::Scalar { text, plain } => match f(text, &node.place) {
            None => return Arc::clone(node),
            Some(text) => Kind::Scalar {
                text,
                plain: *plain,
            },
        },
        Kind::List(items) => Kind::List(items.iter().map(|item| map_scalars(item, f)).collect()),
        Kind::Map(entries) => Kind::Map(
            entries
                .iter()
                .map(|entry| Entry {
                    key: entry.key.clone(),
                    value: map_scalars(&entry.value, f),
                })
                .collect(),
        ),
    };
    Arc::new(Node {
        place: node.place.clone(),
        kind,
        nodes: node.nodes,
        depth: node.depth,
    })
}
