//! What messages show of expressions and types.
//!
//! Invariant: the text of an expression is short, whatever the expression is, and has brackets where the meaning needs
//! them.

use std::fmt::{self, Write};

use arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, Operator};

/// The longest text of an expression, in characters.
const LIMIT: usize = 100;

/// The SQL name of a type of numbers or times.
pub(super) fn name_of(data_type: &DataType) -> String {
    use DataType as T;
    match data_type {
        T::Int8 => "TINYINT".into(),
        T::Int16 => "SMALLINT".into(),
        T::Int32 => "INT".into(),
        T::Int64 => "BIGINT".into(),
        T::Decimal128(precision, scale) | T::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        T::Date32 => "DATE".into(),
        T::Timestamp(_, _) => "TIMESTAMP".into(),
        other => other.to_string(),
    }
}

/// The first characters of an expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Text {
    written: String,
    /// True if the expression has more characters.
    cut: bool,
    /// How firmly the outermost operator binds, if there is one.
    precedence: Option<u8>,
}

impl Text {
    pub(super) fn of(expr: &Expr) -> Self {
        let precedence = match expr {
            Expr::BinaryExpr(binary) => Some(binary.op.precedence()),
            _ => None,
        };
        Self::write(precedence, |text| write!(text, "{}", expr.human_display()))
    }

    pub(super) fn of_call(name: &str, arguments: &[Self]) -> Self {
        Self::write(None, |text| {
            text.write_str(name)?;
            text.write_str("(")?;
            for (i, argument) in arguments.iter().enumerate() {
                text.write_str(if i == 0 { "" } else { ", " })?;
                text.operand(argument, false)?;
            }
            text.write_str(")")
        })
    }

    pub(super) fn of_operator(left: &Self, operator: Operator, right: &Self) -> Self {
        let precedence = operator.precedence();
        Self::write(Some(precedence), |text| {
            text.operand(left, left.precedence.is_some_and(|own| own < precedence))?;
            write!(text, " {operator} ")?;
            text.operand(right, right.precedence.is_some_and(|own| own <= precedence))
        })
    }

    pub(super) fn of_negation(operand: &Self) -> Self {
        Self::write(None, |text| {
            text.write_str("(- ")?;
            text.operand(operand, false)?;
            text.write_str(")")
        })
    }

    fn write(precedence: Option<u8>, write: impl FnOnce(&mut Bounded) -> fmt::Result) -> Self {
        let mut text = Bounded::default();
        let cut = write(&mut text).is_err();
        Self { written: text.written, cut, precedence }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)?;
        f.write_str(if self.cut { "…" } else { "" })
    }
}

/// Keeps the first characters of what is written, and ends the writing behind them.
#[derive(Default)]
struct Bounded {
    written: String,
    characters: usize,
}

impl Bounded {
    fn operand(&mut self, operand: &Text, brackets: bool) -> fmt::Result {
        self.write_str(if brackets { "(" } else { "" })?;
        self.write_str(&operand.written)?;
        if operand.cut {
            return Err(fmt::Error);
        }
        self.write_str(if brackets { ")" } else { "" })
    }
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for character in more.chars() {
            if self.characters == LIMIT {
                return Err(fmt::Error);
            }
            self.characters += 1;
            self.written.push(character);
        }
        Ok(())
    }
}
