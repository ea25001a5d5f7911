//! Files of editions as files of proto2 or proto3, which are what the parser and the linker know.
//!
//! | feature | becomes |
//! |---|---|
//! | `field_presence`: `EXPLICIT`, `IMPLICIT`, `LEGACY_REQUIRED` | `optional`, a field of proto3 without a label, `required` |
//! | `message_encoding`: `DELIMITED` | a group |
//! | all others | nothing: packed and unpacked are both read, texts are always checked, enums are always open |
//!
//! Invariant: a file keeps the names, numbers and types of its fields, and no options but the aliases of enums.

use std::borrow::Cow;
use std::collections::HashSet;

use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::uninterpreted_option::NamePart;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumOptions, FieldDescriptorProto, FileDescriptorProto, FileOptions,
    MessageOptions, UninterpretedOption,
};
use prost_reflect::{DynamicMessage, ReflectMessage as _};

use super::super::inferred::camel_case;

/// The text of a file as the parser takes it.
pub(super) struct ParsedText<'a> {
    pub(super) source: Cow<'a, str>,
    pub(super) is_edition: bool,
}

/// A text whose first statement is `edition = "…";`, with proto3 in its place. Lines and columns stay.
pub(super) fn as_proto3(text: &str) -> ParsedText<'_> {
    let plain = ParsedText { source: Cow::Borrowed(text), is_edition: false };
    let Some(start) = first_word(text) else { return plain };
    let Some(after) = text[start..].strip_prefix("edition") else { return plain };
    let sign = first_word(after).filter(|at| after[*at..].starts_with('='));
    let (Some(_), Some(end)) = (sign, text[start..].find(';')) else { return plain };
    let statement = &text[start..start + end];
    let lines = "\n".repeat(statement.matches('\n').count());
    let rest = without_reserved_names(&text[start + end..]);
    let source = format!("{}{lines}syntax = \"proto3\"{rest}", &text[..start]);
    ParsedText { source: Cow::Owned(source), is_edition: true }
}

/// The text without `reserved foo, bar;`, which only editions have. Numbers may be reserved as everywhere. Lines stay.
fn without_reserved_names(text: &str) -> String {
    const RESERVED: &str = "reserved";
    let mut left = String::with_capacity(text.len());
    let mut rest = text;
    let mut begins = false;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") || rest.starts_with("/*") => {
                let behind = first_word(rest).unwrap_or(rest.len());
                left.push_str(&rest[..behind]);
                rest = &rest[behind..];
                continue;
            }
            '"' | '\'' => 1 + end_of_quote(&rest[1..], c),
            _ if begins && rest.starts_with(RESERVED) => {
                let names = rest[RESERVED.len()..].trim_start();
                let end = rest.find(';').map_or(rest.len(), |end| end + 1);
                if names.len() < rest.len() - RESERVED.len()
                    && names.starts_with(|c: char| c.is_alphabetic() || c == '_')
                {
                    left.extend(rest[..end].chars().filter(|c| *c == '\n'));
                    rest = &rest[end..];
                    continue;
                }
                RESERVED.len()
            }
            _ => c.len_utf8(),
        };
        begins = matches!(c, '{' | '}' | ';') || (begins && c.is_whitespace());
        left.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    left
}

/// Where a text in quotes ends, behind its last quote.
fn end_of_quote(text: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = text.char_indices().find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + quote.len_utf8())
}

/// Where the first word behind comments begins.
fn first_word(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if trimmed.starts_with("//") {
            at += trimmed.find('\n')?;
        } else if trimmed.starts_with("/*") {
            at += trimmed.find("*/")? + 2;
        } else {
            return (!trimmed.is_empty()).then_some(at);
        }
    }
}

/// The file that bytes hold.
///
/// Errors: they hold none, or one with features that are not read.
pub(super) fn binary(bytes: &[u8]) -> Result<FileDescriptorProto, String> {
    let failed = |error: prost_reflect::prost::DecodeError| error.to_string();
    let mut file = FileDescriptorProto::decode(bytes).map_err(failed)?;
    let is_edition = file.syntax() == "editions";
    if is_edition {
        // The types of the parser have no features.
        let known = DynamicMessage::decode(file.descriptor(), bytes).map_err(failed)?;
        file.options.get_or_insert_default().uninterpreted_option = written(&known);
        lift(&mut file.message_type, &known, "message_type");
    }
    plain(file, is_edition)
}

/// Copies the features of messages and fields out of their options.
fn lift(messages: &mut [DescriptorProto], within: &DynamicMessage, list: &str) {
    for (message, known) in messages.iter_mut().zip(items(within, list)) {
        message.options.get_or_insert_default().uninterpreted_option = written(&known);
        for (field, known) in message.field.iter_mut().zip(items(&known, "field")) {
            field.options.get_or_insert_default().uninterpreted_option = written(&known);
        }
        lift(&mut message.nested_type, &known, "nested_type");
    }
}

fn items(of: &DynamicMessage, name: &str) -> Vec<DynamicMessage> {
    let list = of.get_field_by_name(name);
    let items = list.as_ref().and_then(|list| list.as_list()).unwrap_or_default();
    items.iter().filter_map(|item| item.as_message().cloned()).collect()
}

/// The features of a descriptor as its text would have them.
fn written(of: &DynamicMessage) -> Vec<UninterpretedOption> {
    let features = of.get_field_by_name("options").and_then(|options| {
        options.as_message().and_then(|options| options.get_field_by_name("features").map(std::borrow::Cow::into_owned))
    });
    let value = |name| {
        let found = features.as_ref().and_then(|features| features.as_message()?.get_field_by_name(name));
        found.and_then(|value| value.as_enum_number()).unwrap_or(0)
    };
    let presence = match value("field_presence") {
        1 => Some(("field_presence", "EXPLICIT")),
        2 => Some(("field_presence", "IMPLICIT")),
        3 => Some(("field_presence", "LEGACY_REQUIRED")),
        _ => None,
    };
    let encoding = match value("message_encoding") {
        1 => Some(("message_encoding", "LENGTH_PREFIXED")),
        2 => Some(("message_encoding", "DELIMITED")),
        _ => None,
    };
    let part = |name: &str| NamePart { name_part: name.to_owned(), is_extension: false };
    let option = |(name, value): (&str, &str)| UninterpretedOption {
        name: vec![part("features"), part(name)],
        identifier_value: Some(value.to_owned()),
        ..UninterpretedOption::default()
    };
    presence.into_iter().chain(encoding).map(option).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldPresence {
    Explicit,
    Implicit,
    Required,
}

/// What holds for the fields within a file or message.
#[derive(Debug, Clone, Copy)]
struct EditionFeatures {
    presence: FieldPresence,
    is_delimited: bool,
}

impl EditionFeatures {
    /// These features, changed by options.
    fn with(mut self, options: &[UninterpretedOption]) -> Self {
        for option in options {
            let name: Vec<&str> = option.name.iter().map(|part| part.name_part.as_str()).collect();
            let value = option.identifier_value.as_deref().unwrap_or_default();
            match name.as_slice() {
                ["features", feature] => self.set(feature, value),
                ["features"] => {
                    let text = option.aggregate_value.as_deref().unwrap_or_default();
                    let words: Vec<&str> = text
                        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                        .filter(|w| !w.is_empty())
                        .collect();
                    words.windows(2).for_each(|pair| self.set(pair[0], pair[1]));
                }
                _ => {}
            }
        }
        self
    }

    fn set(&mut self, feature: &str, value: &str) {
        match (feature, value) {
            ("field_presence", "EXPLICIT") => self.presence = FieldPresence::Explicit,
            ("field_presence", "IMPLICIT") => self.presence = FieldPresence::Implicit,
            ("field_presence", "LEGACY_REQUIRED") => self.presence = FieldPresence::Required,
            ("message_encoding", "DELIMITED") => self.is_delimited = true,
            ("message_encoding", "LENGTH_PREFIXED") => self.is_delimited = false,
            _ => {}
        }
    }
}

/// A file without options, services and extensions, in proto2 or proto3.
///
/// Errors: it has a feature that is not read.
pub(super) fn plain(mut file: FileDescriptorProto, is_edition: bool) -> Result<FileDescriptorProto, String> {
    let start = EditionFeatures { presence: FieldPresence::Explicit, is_delimited: false };
    let options = file.options.as_ref().map(|options: &FileOptions| options.uninterpreted_option.as_slice());
    let features = is_edition.then(|| start.with(options.unwrap_or_default()));
    if features.is_some_and(|features| features.is_delimited) {
        return Err("its messages are DELIMITED as a whole, which is read of single fields alone".to_owned());
    }
    let mut has_implicit = false;
    for message in &mut file.message_type {
        plain_message(message, features, &mut has_implicit);
    }
    file.enum_type.iter_mut().for_each(plain_enum);
    file.service.clear();
    file.extension.clear();
    file.options = None;
    if is_edition {
        file.syntax = Some(if has_implicit { "proto3" } else { "proto2" }.to_owned());
    }
    Ok(file)
}

fn plain_message(message: &mut DescriptorProto, features: Option<EditionFeatures>, has_implicit: &mut bool) {
    let options = message.options.take().unwrap_or_default();
    let is_entry = options.map_entry();
    let features = features.map(|features| features.with(&options.uninterpreted_option));
    for field in &mut message.field {
        let options = field.options.take().unwrap_or_default();
        if let Some(features) = features.filter(|_| !is_entry) {
            edition_field(field, features.with(&options.uninterpreted_option), has_implicit);
        }
    }
    set_apart(&mut message.field);
    for inner in &mut message.nested_type {
        plain_message(inner, features, has_implicit);
    }
    message.enum_type.iter_mut().for_each(plain_enum);
    message.extension.clear();
    message.extension_range.clear();
    message.oneof_decl.iter_mut().for_each(|oneof| oneof.options = None);
    message.options =
        options.map_entry.map(|map_entry| MessageOptions { map_entry: Some(map_entry), ..MessageOptions::default() });
}

/// What begins the end of a name that was set apart. No name has this character.
const APART: char = '\u{1}';

/// Gives fields whose names differ in underscores and case only names that the linker takes. Compilers take them with
/// a warning, because JSON alone confuses them.
fn set_apart(fields: &mut [FieldDescriptorProto]) {
    let (mut written, mut plain, mut of_json) = (HashSet::new(), HashSet::new(), HashSet::new());
    for field in fields {
        let (name, number) = (field.name().to_owned(), field.number());
        let json = field.json_name.clone().unwrap_or_else(|| camel_case(&name));
        let is_alone = plain.insert(name.replace('_', "").to_lowercase());
        // A name that is there twice is left to the linker.
        if !is_alone && !written.contains(&name) {
            field.name = Some(format!("{name}{APART}{number}"));
        }
        if !of_json.insert(json.clone()) {
            field.json_name = Some(format!("{json}{APART}{number}"));
        }
        written.insert(name);
    }
}

/// The name that a field has in its schema.
pub(super) fn written_name(name: &str) -> &str {
    name.split(APART).next().unwrap_or(name)
}

fn edition_field(field: &mut FieldDescriptorProto, features: EditionFeatures, has_implicit: &mut bool) {
    if features.is_delimited {
        field.r#type = Some(Type::Group.into());
    }
    if field.label() == Label::Repeated || field.oneof_index.is_some() {
        return;
    }
    match features.presence {
        FieldPresence::Explicit => field.proto3_optional = Some(true),
        FieldPresence::Required => field.label = Some(Label::Required.into()),
        FieldPresence::Implicit => *has_implicit = true,
    }
}

fn plain_enum(of: &mut EnumDescriptorProto) {
    // A descriptor has the option by itself, a text as one that nobody has read yet.
    let is_alias =
        |option: &UninterpretedOption| matches!(option.name.as_slice(), [name] if name.name_part == "allow_alias");
    let alias = of.options.as_ref().and_then(|options| {
        let written = options.uninterpreted_option.iter().find(|option| is_alias(option));
        options.allow_alias.or(written.map(|option| option.identifier_value.as_deref() == Some("true")))
    });
    of.options = alias.map(|allow| EnumOptions { allow_alias: Some(allow), ..EnumOptions::default() });
    of.value.iter_mut().for_each(|value| value.options = None);
}
