//! Wrapper functions around DataFusion's planned aggregates: rows or states in, states or values out.
//!
//! Invariant: a wrapper only maps each method of its accumulator to a method of the planned aggregate's accumulator.
//! All forms of one view use the kind of accumulator that one query over all rows would use: groups accumulators for
//! a grouped view, plain ones for a global view. The two kinds encode some states differently, and differ on NaN and
//! on empty input.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::accumulator::{Input, OneGroupAccumulator, Output, StateAccumulator, StateGroupsAccumulator};

/// One planned aggregate in one of its forms.
#[derive(Debug, Clone)]
pub(super) struct StateFunction {
    name: String,
    /// Distinguishes aggregates with the same name. Equal keys mean equal functions.
    key: String,
    signature: Signature,
    planned: Arc<AggregateFunctionExpr>,
    /// False if the aggregate's value does not depend on the order of rows, even if the aggregate declares an order.
    ordered: bool,
    /// True in a view with groups.
    grouped: bool,
    state: Fields,
    /// The types of the planned aggregate's arguments and of its ordering keys.
    arguments: Vec<DataType>,
    input: Input,
    output: Output,
}

impl StateFunction {
    /// `rows` is the schema over which the aggregate was planned.
    pub(super) fn new(
        planned: Arc<AggregateFunctionExpr>,
        rows: &Schema,
        key: &str,
        ordered: bool,
        grouped: bool,
        input: Input,
        output: Output,
    ) -> Result<Self> {
        let verb = match (input, output) {
            (Input::Rows, Output::States) => "update",
            (Input::States, Output::States) => "merge",
            (Input::States, Output::Values) => "finish",
            (Input::Rows, Output::Values) => "compute",
        };
        Ok(Self {
            name: format!("{verb}[{}]", planned.fun().name()),
            key: key.to_owned(),
            signature: Signature::variadic_any(Volatility::Immutable),
            state: state_fields(&planned)?,
            arguments: argument_types(&planned, rows)?,
            planned,
            ordered,
            grouped,
            input,
            output,
        })
    }

    /// True if the aggregate's groups accumulator makes the states.
    fn by_groups(&self) -> bool {
        self.grouped && self.planned.groups_accumulator_supported()
    }

    /// The struct type of the aggregate's states.
    pub(super) fn state_type(&self) -> DataType {
        DataType::Struct(self.state.clone())
    }
}

/// Returns the planned aggregate's state as fields `s0`, `s1`, …, because its own field names hold characters that
/// storage refuses.
fn state_fields(planned: &AggregateFunctionExpr) -> Result<Fields> {
    Ok(planned
        .state_fields()?
        .iter()
        .enumerate()
        .map(|(i, field)| Field::new(format!("s{i}"), field.data_type().clone(), true))
        .collect())
}

/// The types of the columns that the planned aggregate reads of `rows`.
fn argument_types(planned: &AggregateFunctionExpr, rows: &Schema) -> Result<Vec<DataType>> {
    let arguments = planned.expressions().into_iter();
    let keys = planned.order_bys().iter().map(|key| Arc::clone(&key.expr));
    arguments.chain(keys).map(|expr| expr.data_type(rows)).collect()
}

impl PartialEq for StateFunction {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.input == other.input && self.output == other.output
    }
}

impl Eq for StateFunction {}

impl Hash for StateFunction {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.key, self.input, self.output).hash(hasher);
    }
}

impl AggregateUDFImpl for StateFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.output {
            Output::States => self.state_type(),
            Output::Values => self.planned.field().data_type().clone(),
        })
    }

    fn return_field(&self, _: &[FieldRef]) -> Result<FieldRef> {
        Ok(match self.output {
            Output::States => Arc::new(Field::new(&self.name, self.state_type(), false)),
            Output::Values => self.planned.field(),
        })
    }

    fn is_nullable(&self) -> bool {
        match self.output {
            Output::States => false,
            Output::Values => self.planned.is_nullable(),
        }
    }

    fn state_fields(&self, _: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.planned.state_fields()
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if self.by_groups() {
            let groups = self.planned.create_groups_accumulator()?;
            return Ok(Box::new(OneGroupAccumulator::new(
                groups,
                self.state.clone(),
                self.input,
                self.output,
                self.arguments.clone(),
            )));
        }
        Ok(Box::new(StateAccumulator::new(
            self.planned.create_accumulator()?,
            self.state.clone(),
            self.input,
            self.output,
        )))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        self.by_groups()
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(StateGroupsAccumulator::new(
            self.planned.create_groups_accumulator()?,
            self.state.clone(),
            self.input,
            self.output,
            self.arguments.clone(),
        )))
    }

    /// Rows need the order that the aggregate requires. States hold their order values.
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        match self.input {
            Input::Rows if self.ordered => self.planned.order_sensitivity(),
            _ => AggregateOrderSensitivity::Insensitive,
        }
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial_ordering: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        if self.input == Input::States || !self.ordered {
            return Ok(None);
        }
        let planned = Arc::clone(&self.planned).with_beneficial_ordering(beneficial_ordering)?;
        Ok(planned.map(|planned| {
            Arc::new(StateFunction {
                key: format!("{}; beneficial: {beneficial_ordering}", self.key),
                planned: Arc::new(planned),
                ..self.as_ref().clone()
            }) as Arc<dyn AggregateUDFImpl>
        }))
    }
}
