//! Schemas of Protobuf as people and registries write them, linked into a pool of types.
//!
//! A schema is the text of a `.proto` file, or a file's descriptor in base64, as Confluent's clients for Python and C
//! register it. What it imports is looked up among the references of the schema, and among the files that every
//! compiler knows ([`super::known_files`]).
//!
//! Options change nothing of how a message is read, so they are left out, and files that only extend options need not
//! be complete. The exceptions are the features of editions: they become what proto2 and proto3 have in their place.
//!
//! Invariant: whatever the text is, the result is a pool or a reason; no text can overflow the stack.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, FileDescriptor};

use super::super::writers::ReferencedSchema;
use super::editions;
use super::known_files::{GOOGLES, known_file};
use super::wire::{WireBytes, WireKey, WireType};

/// What errors call the schema itself; no import can have this name.
const ITSELF: &str = "the schema";
/// What the parser says of a default in a text of proto3, which is how it gets those of editions.
const NO_DEFAULT: &str = "default values are not allowed in proto3";
const NO_DEFAULT_OF_EDITION: &str =
    "defaults in the text of an edition are not read; give the file's descriptor instead of its text";
/// The most brackets within brackets, far beyond what the parser takes by itself, so that it need not be trusted.
const MOST_BRACKETS: usize = 100;
/// The most files of a schema.
const MOST_FILES: usize = 2000;

/// Links a schema with what it imports. Returns the file of the schema itself.
///
/// Errors: why the text is no schema, as the end of a sentence.
pub(super) fn link(text: &str, references: &[ReferencedSchema]) -> Result<FileDescriptor, String> {
    let references: HashMap<&str, &str> =
        references.iter().map(|found| (found.name.as_str(), found.text.as_str())).collect();
    let mut files = vec![read(ITSELF, text)?];
    let mut seen: HashSet<String> = HashSet::new();
    let mut missing = Vec::new();
    let mut next = 0;
    while next < files.len() {
        for import in files[next].dependency.clone() {
            if !seen.insert(import.clone()) {
                continue;
            }
            if files.len() >= MOST_FILES {
                return Err(format!("it imports more than {MOST_FILES} files"));
            }
            let referred = references.get(import.as_str()).filter(|_| !import.starts_with(GOOGLES));
            let file = match (referred, known_file(&import)) {
                (Some(text), _) => read(&import, text)?,
                (None, Some(file)) => file,
                (None, None) => {
                    let by = match files[next].name() {
                        ITSELF => "it".to_owned(),
                        other => format!("`{other}`"),
                    };
                    missing.push(format!("{by} imports `{import}`"));
                    // Perhaps it only has options.
                    FileDescriptorProto { name: Some(import), ..FileDescriptorProto::default() }
                }
            };
            files.push(file);
        }
        next += 1;
    }
    let pool = in_order(files).and_then(pool).map_err(|why| match missing.as_slice() {
        [] => why,
        missing => format!("{}, which no reference of the schema holds: {why}", missing.join(", ")),
    })?;
    pool.get_file_by_name(ITSELF).ok_or_else(|| "it has no types".to_owned())
}

/// Links the files of a descriptor set in base64, as `protoc --include_imports --descriptor_set_out` writes it.
///
/// Errors: why the text is none, as the end of a sentence.
pub(super) fn link_set(text: &str) -> Result<DescriptorPool, String> {
    let no_set = |what: &str| format!("it is no descriptor set in base64: {what}");
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = STANDARD.decode(text).map_err(|error| no_set(&error.to_string()))?;
    let mut set = WireBytes::new(&bytes);
    let mut files = Vec::new();
    while let Some(key) = set.key().map_err(|why| no_set(&why))? {
        match key {
            WireKey { number: 1, wire: WireType::Bytes } => {
                let file = set.bytes().map_err(|why| no_set(&why))?;
                files.push(editions::binary(file).map_err(|why| no_set(&why))?);
            }
            _ => return Err(no_set("it has fields that none has")),
        }
    }
    if files.is_empty() {
        return Err(no_set("it holds no file"));
    }
    let held: HashSet<String> = files.iter().map(|file| file.name().to_owned()).collect();
    let mut open: Vec<String> = files.iter().flat_map(|file| file.dependency.clone()).collect();
    let mut added = HashSet::new();
    while let Some(import) = open.pop() {
        if held.contains(&import) || !added.insert(import.clone()) {
            continue;
        }
        let file = known_file(&import)
            .ok_or_else(|| format!("it lacks `{import}`, which it imports; was it written with --include_imports?"))?;
        open.extend(file.dependency.clone());
        files.push(file);
    }
    pool(in_order(files)?)
}

/// The files, each after those that it imports. A file imports by itself what others import for it: the linker does not
/// follow such imports to their end, and would follow those in a circle without one.
///
/// Errors: files import each other in a circle.
fn in_order(files: Vec<FileDescriptorProto>) -> Result<Vec<FileDescriptorProto>, String> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        New,
        Open,
        Done,
    }
    let places: HashMap<String, usize> =
        files.iter().enumerate().map(|(at, file)| (file.name().to_owned(), at)).collect();
    let mut visits = vec![Visit::New; files.len()];
    let mut order = Vec::with_capacity(files.len());
    for start in 0..files.len() {
        let mut open = vec![(start, 0)];
        if visits[start] != Visit::New {
            continue;
        }
        visits[start] = Visit::Open;
        while let Some((at, next)) = open.pop() {
            let Some(import) = files[at].dependency.get(next) else {
                visits[at] = Visit::Done;
                order.push(at);
                continue;
            };
            open.push((at, next + 1));
            let Some(place) = places.get(import) else { continue };
            match visits[*place] {
                Visit::New => {
                    visits[*place] = Visit::Open;
                    open.push((*place, 0));
                }
                Visit::Open => return Err(format!("`{import}` imports itself, by way of others")),
                Visit::Done => {}
            }
        }
    }
    let mut files: Vec<Option<FileDescriptorProto>> = files.into_iter().map(Some).collect();
    let mut passed_on: HashMap<String, Vec<String>> = HashMap::new();
    let mut linked = Vec::with_capacity(files.len());
    for mut file in order.into_iter().filter_map(|at| files[at].take()) {
        let is_public = |at: usize| file.public_dependency.iter().any(|public| usize::try_from(*public) == Ok(at));
        let mut imports = Vec::new();
        let mut passed = Vec::new();
        for (at, import) in file.dependency.iter().enumerate() {
            let all = std::iter::once(import).chain(passed_on.get(import).into_iter().flatten());
            imports.extend(all.clone().cloned());
            if is_public(at) {
                passed.extend(all.cloned());
            }
        }
        passed_on.insert(file.name().to_owned(), unique(passed));
        file.dependency = unique(imports);
        file.public_dependency.clear();
        file.weak_dependency.clear();
        linked.push(file);
    }
    Ok(linked)
}

fn unique(names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

fn pool(files: Vec<FileDescriptorProto>) -> Result<DescriptorPool, String> {
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files).map_err(|error| format!("{error:?}").replace(&format!("{ITSELF}: "), ""))?;
    Ok(pool)
}

/// A file called `name`, from its text or its descriptor.
fn read(name: &str, text: &str) -> Result<FileDescriptorProto, String> {
    let mut file = match descriptor(text) {
        Some(file) => file.map_err(|why| told(name, &why))?,
        None => {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            shallow(text).map_err(|why| told(name, &why))?;
            let text = editions::as_proto3(text);
            let parsed = protox_parse::parse(name, &text.source).map_err(|error| {
                let told = place(name, &format!("{error:?}"));
                match text.is_edition {
                    true => told.replace(NO_DEFAULT, NO_DEFAULT_OF_EDITION),
                    false => told,
                }
            })?;
            editions::plain(parsed, text.is_edition).map_err(|why| told(name, &why))?
        }
    };
    file.name = Some(name.to_owned());
    file.source_code_info = None;
    Ok(file)
}

/// The descriptor that a text holds in base64. No text of a `.proto` file is base64, because it has spaces or is empty.
fn descriptor(text: &str) -> Option<Result<FileDescriptorProto, String>> {
    let bytes = STANDARD.decode(text.trim()).ok().filter(|bytes| !bytes.is_empty())?;
    Some(editions::binary(&bytes).map_err(|why| format!("it is no descriptor of a file: {why}")))
}

fn told(name: &str, why: &str) -> String {
    match name {
        ITSELF => why.to_owned(),
        other => format!("`{other}`: {why}"),
    }
}

/// What the parser says, with a place that people know: `line 3, column 7: expected …`.
fn place(name: &str, said: &str) -> String {
    let at = said.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
    let parts = at.and_then(|rest| {
        let (line, rest) = rest.split_once(':')?;
        let (column, why) = rest.split_once(": ")?;
        Some((line.parse::<u32>().ok()?, column.parse::<u32>().ok()?, why))
    });
    match parts {
        Some((line, column, why)) => told(name, &format!("line {line}, column {column}: {why}")),
        None => told(name, said),
    }
}

/// Errors: brackets are nested so deeply that a parser which calls itself for each could overflow its stack.
fn shallow(text: &str) -> Result<(), String> {
    let mut depth = 0usize;
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'/' if after.first() == Some(&b'/') => {
                rest = &after[after.iter().position(|b| *b == b'\n').unwrap_or(after.len())..];
            }
            b'/' if after.first() == Some(&b'*') => {
                let end = after.windows(2).skip(1).position(|pair| pair == b"*/");
                rest = &after[end.map_or(after.len(), |end| end + 3)..];
            }
            quote @ (b'"' | b'\'') => {
                while let Some((byte, after)) = rest.split_first() {
                    rest = if *byte == b'\\' { after.get(1..).unwrap_or_default() } else { after };
                    if byte == quote || *byte == b'\n' {
                        break;
                    }
                }
            }
            b'{' | b'[' | b'<' | b'(' => depth += 1,
            b'}' | b']' | b'>' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MOST_BRACKETS {
            return Err(format!("its brackets are nested more than {MOST_BRACKETS} deep"));
        }
    }
    Ok(())
}
