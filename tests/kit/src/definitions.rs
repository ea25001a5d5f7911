//! Streams and views without SQL of their own, and catalogs of them without a warehouse.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use thalweg_schemas::algebra::ViewPlan;
use thalweg_schemas::catalog::{Catalog, CatalogStream, CatalogView, CompiledView};
use thalweg_schemas::definition::message::MessageOptions;
use thalweg_schemas::definition::stream::{RecordFormat, StreamDefinition};
use thalweg_schemas::definition::view::ViewDefinition;
use thalweg_schemas::{Frontier, StreamName, ViewName};

/// A stream of JSON with these columns. The topic has the stream's name.
pub fn stream(name: &str, columns: &[(&str, DataType)]) -> StreamDefinition {
    let columns = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    StreamDefinition {
        name: StreamName::new(name).unwrap(),
        topic: name.into(),
        columns: Arc::new(Schema::new(columns.collect::<Vec<_>>())),
        format: RecordFormat::Json,
        event_time: None,
        connection: None,
        messages: MessageOptions::default(),
        kafka: BTreeMap::new(),
        sql: String::new(),
    }
}

/// A catalog of `stream` and these views, given by name and query. All views are being built.
pub async fn catalog(stream: StreamDefinition, origin: Frontier, views: &[(&str, &str)]) -> Catalog {
    let mut catalog = Catalog { version: 1, ..Catalog::default() };
    for (name, query) in views {
        let name = ViewName::new(name).unwrap();
        let (stream_name, query, sql) = (stream.name.clone(), (*query).to_owned(), (*query).to_owned());
        let definition = ViewDefinition { name: name.clone(), stream: stream_name, query, sql };
        let plan = ViewPlan::compile(&definition, &stream).await.unwrap_or_else(|e| panic!("{}: {e}", definition.sql));
        let building = Some(Arc::new(CompiledView { definition, plan }));
        catalog.views.insert(name, CatalogView { building, ..CatalogView::default() });
    }
    catalog
        .streams
        .insert(stream.name.clone(), Arc::new(CatalogStream { definition: stream, origin, predecessors: 0 }));
    catalog
}

/// Returns the view `name`, which is being built.
pub fn view(catalog: &Catalog, name: &str) -> Arc<CompiledView> {
    let view = &catalog.views[&ViewName::new(name).unwrap()];
    Arc::clone(view.building.as_ref().unwrap())
}
