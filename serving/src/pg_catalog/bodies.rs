//! What each function of PostgreSQL answers here.
//!
//! Invariant: a function that asks about something that does not exist answers NULL, as PostgreSQL's do; only a cast to
//! `regclass` and its kin is an error.

use arrow::array::Array;
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue as Value, exec_err};
use datafusion::error::Result as EngineResult;
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::settings::{VERSION, setting};
use super::snapshot::{CLASS_OF_RELATIONS, OWNER, OWNER_OID, Relation, Snapshot, parts, quoted};
use super::system::{SystemFunction, items};
use super::types::{self, pg_type};
use super::{formats, patterns};
use crate::names::{CATALOG, PUBLIC};
use crate::parameters::beginning;
use Returns::{Bool, Int4, Int8, Int8s, Text, Texts};

/// The type of a function's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returns {
    Text,
    Bool,
    Int4,
    Int8,
    Texts,
    Int8s,
}

impl Returns {
    pub(super) fn data_type(self) -> DataType {
        match self {
            Text => DataType::Utf8,
            Bool => DataType::Boolean,
            Int4 => DataType::Int32,
            Int8 => DataType::Int64,
            Texts => types::list(DataType::Utf8),
            Int8s => types::list(DataType::Int64),
        }
    }
}

pub(super) type Body = fn(&Snapshot, &[Value]) -> EngineResult<Value>;

/// Name, type and body.
pub(super) const FUNCTIONS: &[(&str, Returns, Body)] = &[
    // The session.
    ("version", Text, |_, _| Ok(text(version()))),
    ("current_database", Text, |_, _| Ok(text(CATALOG))),
    ("current_catalog", Text, |_, _| Ok(text(CATALOG))),
    ("current_schema", Text, |_, _| Ok(text(PUBLIC))),
    ("current_schemas", Texts, |_, given| {
        Ok(texts(if truth(given, 0) { vec!["pg_catalog", PUBLIC] } else { vec![PUBLIC] }))
    }),
    ("current_user", Text, |_, _| Ok(text(OWNER))),
    ("session_user", Text, |_, _| Ok(text(OWNER))),
    ("user", Text, |_, _| Ok(text(OWNER))),
    ("pg_backend_pid", Int4, |_, _| Ok(Value::Int32(i32::try_from(std::process::id()).ok()))),
    ("current_setting", Text, current_setting),
    ("set_config", Text, |_, given| Ok(given.get(1).cloned().unwrap_or(Value::Null))),
    ("pg_is_in_recovery", Bool, |_, _| no()),
    ("pg_is_wal_replay_paused", Bool, |_, _| no()),
    ("txid_current", Int8, |_, _| Ok(Value::Int64(Some(1)))),
    ("pg_my_temp_schema", Int4, |_, _| Ok(Value::Int32(Some(0)))),
    ("pg_is_other_temp_schema", Bool, |_, _| no()),
    ("inet_server_addr", Text, |_, _| Ok(Value::Null)),
    ("inet_client_addr", Text, |_, _| Ok(Value::Null)),
    ("inet_server_port", Int4, |_, _| Ok(Value::Null)),
    ("inet_client_port", Int4, |_, _| Ok(Value::Null)),
    ("getdatabaseencoding", Text, |_, _| Ok(text("UTF8"))),
    ("pg_client_encoding", Text, |_, _| Ok(text("UTF8"))),
    ("pg_encoding_to_char", Text, |_, _| Ok(text("UTF8"))),
    ("pg_char_to_encoding", Int4, |_, _| Ok(Value::Int32(Some(6)))),
    ("pg_tablespace_location", Text, |_, _| Ok(text(""))),
    // Rights. What a client may not do is refused when it tries.
    ("has_table_privilege", Bool, reads_only),
    ("has_column_privilege", Bool, reads_only),
    ("has_any_column_privilege", Bool, reads_only),
    ("has_schema_privilege", Bool, reads_only),
    ("has_database_privilege", Bool, reads_only),
    ("has_function_privilege", Bool, reads_only),
    ("has_sequence_privilege", Bool, reads_only),
    ("has_tablespace_privilege", Bool, reads_only),
    ("has_foreign_data_wrapper_privilege", Bool, reads_only),
    ("has_server_privilege", Bool, reads_only),
    ("has_language_privilege", Bool, reads_only),
    ("pg_has_role", Bool, |_, _| yes()),
    ("row_security_active", Bool, |_, _| no()),
    ("pg_get_userbyid", Text, |_, given| {
        Ok(int(given, 0).map_or(Value::Null, |oid| text(if oid == OWNER_OID { OWNER } else { "unknown" })))
    }),
    // Visibility: what needs no schema in front.
    ("pg_table_is_visible", Bool, |snapshot, given| {
        let relation = int(given, 0).and_then(|oid| snapshot.relation_at(oid));
        Ok(relation.map_or(Value::Null, |relation| Value::from(relation.is_visible())))
    }),
    ("pg_type_is_visible", Bool, |_, _| yes()),
    ("pg_function_is_visible", Bool, |_, _| yes()),
    ("pg_operator_is_visible", Bool, |_, _| yes()),
    ("pg_opclass_is_visible", Bool, |_, _| yes()),
    ("pg_opfamily_is_visible", Bool, |_, _| yes()),
    ("pg_collation_is_visible", Bool, |_, _| yes()),
    ("pg_conversion_is_visible", Bool, |_, _| yes()),
    ("pg_ts_config_is_visible", Bool, |_, _| yes()),
    ("pg_ts_dict_is_visible", Bool, |_, _| yes()),
    ("pg_ts_parser_is_visible", Bool, |_, _| yes()),
    ("pg_ts_template_is_visible", Bool, |_, _| yes()),
    ("pg_statistics_obj_is_visible", Bool, |_, _| yes()),
    ("pg_relation_is_publishable", Bool, |_, _| no()),
    ("pg_relation_is_updatable", Int4, |_, _| Ok(Value::Int32(Some(0)))),
    ("pg_column_is_updatable", Bool, |_, _| no()),
    // Texts of definitions.
    ("pg_get_viewdef", Text, |snapshot, given| {
        let relation = relation(snapshot, given, 0);
        Ok(match relation {
            Some(Relation::Object(object)) if object.kind != "r" => text(&object.definition),
            _ => Value::Null,
        })
    }),
    ("pg_get_expr", Text, |_, given| Ok(given.first().cloned().unwrap_or(Value::Null))),
    ("pg_get_constraintdef", Text, nothing),
    ("pg_get_indexdef", Text, nothing),
    ("pg_get_ruledef", Text, nothing),
    ("pg_get_triggerdef", Text, nothing),
    ("pg_get_functiondef", Text, nothing),
    ("pg_get_partkeydef", Text, nothing),
    ("pg_get_partition_constraintdef", Text, nothing),
    ("pg_get_serial_sequence", Text, nothing),
    ("pg_get_statisticsobjdef_columns", Text, nothing),
    ("pg_get_statisticsobjdef", Text, nothing),
    ("pg_get_function_sqlbody", Text, nothing),
    ("pg_get_function_arg_default", Text, nothing),
    ("pg_get_function_result", Text, |snapshot, given| {
        Ok(function(snapshot, given).map_or(Value::Null, |function| {
            let set = if function.returns_set { "SETOF " } else { "" };
            text(format!("{set}{}", snapshot.type_name(function.returns, -1)))
        }))
    }),
    ("pg_get_function_arguments", Text, arguments),
    ("pg_get_function_identity_arguments", Text, arguments),
    // Comments.
    ("obj_description", Text, object_comment),
    ("shobj_description", Text, nothing),
    ("col_description", Text, |snapshot, given| {
        let object = int(given, 0).and_then(|oid| snapshot.object(oid));
        let number = int(given, 1).and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
        let comment = object.zip(number.checked_sub(1)).and_then(|(object, at)| {
            let field = object.columns.fields().get(at)?;
            object.comments.columns.get(field.name())
        });
        Ok(comment.map_or(Value::Null, text))
    }),
    // Sizes: tables have none of their own.
    ("pg_relation_size", Int8, |_, _| zero()),
    ("pg_total_relation_size", Int8, |_, _| zero()),
    ("pg_table_size", Int8, |_, _| zero()),
    ("pg_indexes_size", Int8, |_, _| zero()),
    ("pg_database_size", Int8, |_, _| zero()),
    ("pg_tablespace_size", Int8, |_, _| zero()),
    ("pg_stat_get_numscans", Int8, |_, _| zero()),
    ("pg_stat_get_live_tuples", Int8, |_, _| zero()),
    ("pg_size_pretty", Text, |_, given| Ok(int8(given, 0).map_or(Value::Null, |bytes| text(size(bytes))))),
    // Names and types.
    ("format_type", Text, |snapshot, given| {
        let modifier = int(given, 1).unwrap_or(-1);
        Ok(int(given, 0).map_or(Value::Null, |oid| text(snapshot.type_name(oid, modifier))))
    }),
    ("pg_typeof", Text, |snapshot, given| {
        Ok(given.first().map_or(Value::Null, |value| match value.data_type() {
            DataType::Null => text("unknown"),
            data_type => text(snapshot.type_name(pg_type(&data_type).oid, -1)),
        }))
    }),
    ("quote_ident", Text, |_, given| Ok(string(given, 0).map_or(Value::Null, |name| text(quoted(&name))))),
    ("quote_literal", Text, |_, given| {
        Ok(string(given, 0).map_or(Value::Null, |name| text(format!("'{}'", name.replace('\'', "''")))))
    }),
    ("format", Text, |_, given| match string(given, 0) {
        Some(pattern) => match formats::formatted(&pattern, &|at| given.get(at + 1).map(|_| string(given, at + 1))) {
            Ok(formatted) => Ok(text(formatted)),
            Err(reason) => exec_err!("{reason}"),
        },
        None => Ok(Value::Null),
    }),
    // Casts to types whose values are texts here, and the patterns of LIKE; `words` writes the calls.
    ("uuid_in", Text, |_, given| match string(given, 0) {
        Some(written) => match Uuid::parse_str(written.trim()) {
            Ok(id) => Ok(text(id.to_string())),
            Err(_) => exec_err!("invalid input syntax for type uuid: \"{}\"", beginning(&written)),
        },
        None => Ok(Value::Null),
    }),
    ("json_in", Text, |_, given| match string(given, 0) {
        Some(written) => match serde_json::from_str::<IgnoredAny>(&written) {
            Ok(_) => Ok(text(written)),
            Err(error) => exec_err!("invalid input syntax for type json: \"{}\": {error}", beginning(&written)),
        },
        None => Ok(Value::Null),
    }),
    ("like_escape", Text, |_, given| match (string(given, 0), string(given, 1)) {
        (Some(pattern), Some(escape)) => match patterns::like_escape(&pattern, &escape) {
            Ok(pattern) => Ok(text(pattern)),
            Err(reason) => exec_err!("{reason}"),
        },
        _ => Ok(Value::Null),
    }),
    ("parse_ident", Texts, |_, given| Ok(string(given, 0).and_then(|name| parts(&name)).map_or(Value::Null, texts))),
    ("to_regclass", Int4, |snapshot, given| Ok(oid(relation(snapshot, given, 0).map(|found| found.oid())))),
    ("to_regtype", Int4, |snapshot, given| Ok(oid(string(given, 0).and_then(|name| snapshot.type_oid(&name))))),
    ("to_regnamespace", Int4, |snapshot, given| Ok(oid(string(given, 0).and_then(|name| snapshot.schema_oid(&name))))),
    ("to_regrole", Int4, |_, given| Ok(oid(string(given, 0).is_some_and(|name| name == OWNER).then_some(OWNER_OID)))),
    // Casts to and from oids; `words` writes them.
    ("regclass", Int4, |snapshot, given| {
        found(given, "relation", |_| relation(snapshot, given, 0).map(|found| found.oid()))
    }),
    ("regclass_text", Text, |snapshot, given| {
        named(
            given,
            "relation",
            |_| relation(snapshot, given, 0).map(|found| found.oid()),
            |oid| snapshot.relation_name(oid),
        )
    }),
    ("regtype", Int4, |snapshot, given| found(given, "type", |name| snapshot.type_oid(name))),
    ("regtype_text", Text, |snapshot, given| {
        named(given, "type", |name| snapshot.type_oid(name), |oid| snapshot.type_name(oid, -1))
    }),
    ("regtype_texts", Texts, |snapshot, given| {
        let oids = given.first().filter(|value| !value.is_null()).map(list);
        let name = |oid: String| oid.parse().map_or(oid, |oid| snapshot.type_name(oid, -1));
        Ok(oids.map_or(Value::Null, |oids| texts(oids.into_iter().map(name).collect::<Vec<_>>())))
    }),
    ("regnamespace", Int4, |snapshot, given| found(given, "schema", |name| snapshot.schema_oid(name))),
    ("regnamespace_text", Text, |snapshot, given| {
        named(
            given,
            "schema",
            |name| snapshot.schema_oid(name),
            |oid| {
                let schemas = snapshot.schemas();
                let schema = schemas.iter().find(|(_, known)| *known == oid);
                schema.map_or_else(|| oid.to_string(), |(name, _)| (*name).to_owned())
            },
        )
    }),
    ("regrole", Int4, |_, given| found(given, "role", |name| (name == OWNER).then_some(OWNER_OID))),
    ("regrole_text", Text, |_, given| {
        named(
            given,
            "role",
            |name| (name == OWNER).then_some(OWNER_OID),
            |oid| match oid {
                OWNER_OID => OWNER.to_owned(),
                other => other.to_string(),
            },
        )
    }),
    ("regproc", Text, |snapshot, given| {
        Ok(match int(given, 0).and_then(|oid| snapshot.system.functions.get(&oid)) {
            Some(function) => text(&function.name),
            None => string(given, 0).map_or(Value::Null, |name| {
                let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
                text(name.split('(').next().unwrap_or(name))
            }),
        })
    }),
    ("regproc_oid", Int4, |snapshot, given| {
        let Some(name) = string(given, 0) else { return Ok(Value::Null) };
        let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
        let mut functions = snapshot.system.functions.iter();
        let known = functions.find(|(_, function)| function.name == name).map(|(oid, _)| *oid);
        Ok(oid(int(given, 0).or(known)))
    }),
    // Arrays.
    ("pg_texts", Texts, |_, given| {
        let value = given.first().filter(|value| !value.is_null());
        Ok(value.map_or(Value::Null, |value| texts(list(value))))
    }),
    ("array_upper", Int8, |_, given| Ok(Value::Int64(length(given).filter(|length| *length > 0)))),
    ("array_lower", Int8, |_, given| Ok(Value::Int64(length(given).filter(|length| *length > 0).map(|_| 1)))),
    ("generate_subscripts", Int8s, |_, given| {
        let numbers = (1..=length(given).unwrap_or(0)).map(|number| Value::Int64(Some(number)));
        Ok(Value::List(Value::new_list_nullable(&numbers.collect::<Vec<_>>(), &DataType::Int64)))
    }),
];

fn version() -> String {
    format!("PostgreSQL {VERSION} (Thalweg {})", env!("CARGO_PKG_VERSION"))
}

fn text(text: impl Into<String>) -> Value {
    Value::Utf8(Some(text.into()))
}

fn texts<T: Into<String>>(items: Vec<T>) -> Value {
    let items: Vec<Value> = items.into_iter().map(text).collect();
    Value::List(Value::new_list_nullable(&items, &DataType::Utf8))
}

fn oid(found: Option<i32>) -> Value {
    Value::Int32(found)
}

fn yes() -> EngineResult<Value> {
    Ok(Value::from(true))
}

fn no() -> EngineResult<Value> {
    Ok(Value::from(false))
}

fn zero() -> EngineResult<Value> {
    Ok(Value::Int64(Some(0)))
}

fn nothing(_: &Snapshot, _: &[Value]) -> EngineResult<Value> {
    Ok(Value::Null)
}

/// An argument as text.
fn string(given: &[Value], at: usize) -> Option<String> {
    let value = given.get(at).filter(|value| !value.is_null())?;
    value.try_as_str().flatten().map_or_else(|| Some(value.to_string()), |text| Some(text.to_owned()))
}

/// An argument as a number, also one that is written as a text.
fn int8(given: &[Value], at: usize) -> Option<i64> {
    string(given, at)?.trim().parse().ok()
}

fn int(given: &[Value], at: usize) -> Option<i32> {
    i32::try_from(int8(given, at)?).ok()
}

fn truth(given: &[Value], at: usize) -> bool {
    matches!(given.get(at), Some(Value::Boolean(Some(true))))
}

fn relation<'a>(snapshot: &'a Snapshot, given: &[Value], at: usize) -> Option<Relation<'a>> {
    snapshot.relation(&string(given, at)?)
}

/// The oid that a name or number stands for.
///
/// Errors: the name is not known.
fn found(given: &[Value], kind: &str, find: impl Fn(&str) -> Option<i32>) -> EngineResult<Value> {
    let Some(name) = string(given, 0) else { return Ok(Value::Null) };
    match int(given, 0).or_else(|| find(&name)) {
        Some(oid) => Ok(Value::Int32(Some(oid))),
        None => unknown(kind, &name),
    }
}

/// The name of what a name or number stands for.
///
/// Errors: the name is not known.
fn named(
    given: &[Value],
    kind: &str,
    find: impl Fn(&str) -> Option<i32>,
    show: impl Fn(i32) -> String,
) -> EngineResult<Value> {
    match found(given, kind, find)? {
        Value::Int32(Some(oid)) => Ok(text(show(oid))),
        other => Ok(other),
    }
}

/// The items of an array, or of a text that is written as one.
fn list(value: &Value) -> Vec<String> {
    match value {
        Value::List(list) => {
            let inner = list.value(0);
            let items = (0..inner.len()).filter_map(|at| Value::try_from_array(&inner, at).ok());
            items.filter(|item| !item.is_null()).filter_map(|item| string(&[item], 0)).collect()
        }
        other => string(std::slice::from_ref(other), 0).map(|text| items(&text)).unwrap_or_default(),
    }
}

fn length(given: &[Value]) -> Option<i64> {
    match given.first()? {
        Value::List(list) if list.is_valid(0) => Some(list.value_length(0).into()),
        _ => None,
    }
}

/// Everything may be read and nothing written.
fn reads_only(_: &Snapshot, given: &[Value]) -> EngineResult<Value> {
    let right = given.len().checked_sub(1).and_then(|last| string(given, last)).unwrap_or_default().to_uppercase();
    let reads = ["SELECT", "USAGE", "CONNECT", "EXECUTE"];
    Ok(Value::from(right.split(',').any(|right| reads.contains(&right.trim()))))
}

fn current_setting(_: &Snapshot, given: &[Value]) -> EngineResult<Value> {
    let Some(name) = string(given, 0) else { return Ok(Value::Null) };
    match setting(&name) {
        Some(value) => Ok(text(value)),
        None if truth(given, 1) => Ok(Value::Null),
        None => unknown("setting", &name),
    }
}

fn function<'a>(snapshot: &'a Snapshot, given: &[Value]) -> Option<&'a SystemFunction> {
    snapshot.system.functions.get(&int(given, 0)?)
}

fn arguments(snapshot: &Snapshot, given: &[Value]) -> EngineResult<Value> {
    Ok(function(snapshot, given).map_or(Value::Null, |function| {
        let names: Vec<String> = function.arguments.iter().map(|oid| snapshot.type_name(*oid, -1)).collect();
        text(names.join(", "))
    }))
}

fn object_comment(snapshot: &Snapshot, given: &[Value]) -> EngineResult<Value> {
    let Some(oid) = int(given, 0) else { return Ok(Value::Null) };
    let class = match string(given, 1) {
        Some(name) => snapshot.relation(&name).map(|found| found.oid()),
        None => Some(CLASS_OF_RELATIONS),
    };
    let own = snapshot.object(oid).filter(|_| class == Some(CLASS_OF_RELATIONS));
    let own = own.and_then(|object| object.comments.object.as_ref());
    let known = || class.and_then(|class| snapshot.system.comments.get(&(oid, class)));
    Ok(own.or_else(known).map_or(Value::Null, text))
}

fn size(bytes: i64) -> String {
    let (mut number, mut units) = (bytes, ["bytes", "kB", "MB", "GB", "TB"].into_iter().peekable());
    loop {
        let unit = units.next().unwrap_or("TB");
        if number.abs() < 10_240 || units.peek().is_none() {
            return format!("{number} {unit}");
        }
        number /= 1024;
    }
}

/// The error of a name that is not known, in PostgreSQL's words.
fn unknown(kind: &str, name: &str) -> EngineResult<Value> {
    exec_err!("{kind} \"{name}\" does not exist")
}
