//! Aggregates in windows. What is not about values is the function's within.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, ReversedUDAF, SetMonotonicity, Signature,
};

use super::{CountTerms, MadeValues};

/// Bytes of the offset of a value in a column.
const OFFSET: usize = 8;

/// An aggregate in a window.
#[derive(Debug)]
pub(super) struct CountedAggregate {
    function: Arc<AggregateUDF>,
    terms: CountTerms,
}

impl CountedAggregate {
    pub(super) fn new(function: Arc<AggregateUDF>, terms: CountTerms) -> Self {
        Self { function, terms }
    }

    fn counted(&self, inner: Box<dyn Accumulator>) -> Box<dyn Accumulator> {
        Box::new(CountedAccumulator { inner, made: MadeValues::new(&self.terms), arguments: 0, rows: 0 })
    }
}

impl PartialEq for CountedAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
    }
}

impl Eq for CountedAggregate {}

impl Hash for CountedAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

/// Methods of the function within.
macro_rules! as_within {
    ($($method:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $method(&self, $($argument: $type),*) -> $result {
            self.function.inner().$method($($argument),*)
        })*
    };
}

impl AggregateUDFImpl for CountedAggregate {
    as_within! {
        name() -> &str;
        aliases() -> &[String];
        schema_name(params: &AggregateFunctionParams) -> Result<String>;
        human_display(params: &AggregateFunctionParams) -> Result<String>;
        window_function_schema_name(params: &WindowFunctionParams) -> Result<String>;
        display_name(params: &AggregateFunctionParams) -> Result<String>;
        window_function_display_name(params: &WindowFunctionParams) -> Result<String>;
        signature() -> &Signature;
        return_type(types: &[DataType]) -> Result<DataType>;
        return_field(fields: &[FieldRef]) -> Result<FieldRef>;
        is_nullable() -> bool;
        state_fields(args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>>;
        order_sensitivity() -> AggregateOrderSensitivity;
        simplify() -> Option<AggregateFunctionSimplification>;
        coerce_types(types: &[DataType]) -> Result<Vec<DataType>>;
        is_descending() -> Option<bool>;
        default_value(data_type: &DataType) -> Result<ScalarValue>;
        supports_null_handling_clause() -> bool;
        supports_within_group_clause() -> bool;
        set_monotonicity(data_type: &DataType) -> SetMonotonicity;
        documentation() -> Option<&Documentation>;
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(self.counted(self.function.inner().accumulator(args)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(self.counted(self.function.inner().create_sliding_accumulator(args)?))
    }

    fn with_beneficial_ordering(self: Arc<Self>, is_ordered: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let ordered = Arc::clone(self.function.inner()).with_beneficial_ordering(is_ordered)?;
        let function = ordered.map(|ordered| Arc::new(AggregateUDF::new_from_shared_impl(ordered)));
        Ok(function.map(|function| Arc::new(Self::new(function, self.terms.clone())) as _))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.function.inner().reverse_expr() {
            ReversedUDAF::Reversed(function) => {
                let reversed = Self::new(function, self.terms.clone());
                ReversedUDAF::Reversed(Arc::new(AggregateUDF::new_from_impl(reversed)))
            }
            same => same,
        }
    }
}

#[derive(Debug)]
struct CountedAccumulator {
    inner: Box<dyn Accumulator>,
    made: MadeValues,
    /// Bytes of the arguments within the frame: most values are not larger.
    arguments: usize,
    rows: usize,
}

fn bytes(values: &[ArrayRef]) -> usize {
    let sizes = values.iter().map(|values| values.to_data().get_slice_memory_size().unwrap_or(0));
    sizes.fold(0, usize::saturating_add)
}

impl Accumulator for CountedAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.made.begin(values);
        self.arguments = self.arguments.saturating_add(bytes(values));
        self.rows += values.first().map_or(0, |first| first.len());
        self.inner.update_batch(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.arguments = self.arguments.saturating_sub(bytes(values));
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.made.terms.is_constant {
            let value = self.inner.evaluate()?;
            let rows = match self.made.terms.is_filtered {
                true => self.made.terms.allowance.window_rows(),
                false => self.rows,
            };
            let width = value.size().saturating_sub(size_of::<ScalarValue>()).saturating_add(OFFSET);
            self.made.add_column(width.saturating_mul(rows))?;
            return Ok(value);
        }
        let expected = self.arguments.min(self.inner.size());
        self.made.add(expected)?;
        let value = self.inner.evaluate()?;
        self.made.add(value.size().saturating_sub(expected))?;
        Ok(value)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }
}
