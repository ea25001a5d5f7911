//! Streams and views as relations of PostgreSQL.
//!
//! | object | schema | kind |
//! |---|---|---|
//! | stream | `public` | `r`, a table |
//! | view | `public` | `m`, a materialized view |
//! | one side of a view | `batch`, `speed` | `v`, a view |
//! | messages that could not be decoded | `rejects` | `r`, a table |

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use thalweg_schemas::catalog::{Catalog, Comments};

use super::oids::oids;
use crate::names::{self, Named, PUBLIC};

/// The oid of the schema `public` in every database of PostgreSQL.
const PUBLIC_OID: i32 = 2200;

/// A stream or view under one of its names.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) oid: i32,
    pub(super) schema: &'static str,
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) columns: SchemaRef,
    pub(super) definition: String,
    pub(super) comments: Comments,
}

/// All objects of one version of the catalog, and the schemas that they are in.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) list: Vec<Object>,
    /// Names and oids of the schemas.
    pub(super) schemas: BTreeMap<&'static str, i32>,
}

impl Objects {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let names = names::all_names(catalog);
        let all = names.iter().flat_map(|(schema, tables)| tables.keys().map(|name| (*schema, name.as_str())));
        let oids = oids(all.chain(names.keys().map(|schema| (*schema, ""))));
        let schemas = names.keys().map(|schema| match *schema {
            PUBLIC => (*schema, PUBLIC_OID),
            schema => (schema, oids[&(schema, "")]),
        });
        let schemas = schemas.collect();
        let mut list = Vec::new();
        for (schema, tables) in &names {
            for (name, named) in tables {
                let kind = match named {
                    Named::Rows(_) | Named::Rejects(_) => "r",
                    Named::View(..) if *schema == PUBLIC => "m",
                    Named::View(..) => "v",
                };
                // Comments are on the stream or the view, not on its sides.
                let comments = match *schema {
                    PUBLIC => catalog.comments.get(name).cloned().unwrap_or_default(),
                    _ => Comments::default(),
                };
                list.push(Object {
                    oid: oids[&(*schema, name.as_str())],
                    schema,
                    name: name.clone(),
                    kind,
                    columns: named.schema(&names::Mentioned::new()),
                    definition: named.definition(),
                    comments,
                });
            }
        }
        list.sort_by(|a, b| (a.schema, &a.name).cmp(&(b.schema, &b.name)));
        Self { list, schemas }
    }
}
