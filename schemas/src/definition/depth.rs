//! How deep a statement nests, measured on its tokens before any parser or planner recurses over it.
//!
//! The parser limits brackets itself. But it reads `1 + 1 + 1 …`, `a UNION ALL b …` and `x::INT::INT …` in a loop, and
//! makes a tree that is as deep as the text is long. Planning, printing, comparing and dropping such a tree recurse.
//! Invariant: a statement that [`check`] accepts takes at most a quarter of a stack of
//! [`crate::engine::threads::STACK`] bytes, also in a debug build. `tests/it/depth.rs` shows that.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::TextSpan;

/// The limit of nested brackets and CASEs, and of type brackets: the parser's own limit does not cover types.
const BRACKETS: usize = 128;
/// The limit of operators of one expression, counted through all brackets around it.
const OPERATORS: usize = 1_000;
/// The limit of queries, joined tables and set operations of one statement. Each of them may be nested in the next.
const QUERIES: usize = 256;

/// A place at which a statement is too deep, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooDeep {
    pub(super) reason: String,
    pub(super) span: Option<TextSpan>,
}

/// One open bracket or CASE.
#[derive(Debug, Default, Clone, Copy)]
struct Level {
    /// Operators since the last comma, WHEN, THEN or ELSE.
    operators: usize,
    /// True between FROM and the next clause: a comma joins.
    from: bool,
    /// True between CASE and END.
    case: bool,
}

/// Errors: the first place at which the tokens of a statement nest too deep.
pub(super) fn check<'a>(tokens: impl Iterator<Item = (&'a Token, Option<TextSpan>)>) -> Result<(), TooDeep> {
    let mut depth = Depth { levels: vec![Level::default()], ..Depth::default() };
    for (token, span) in tokens {
        depth.take(token);
        if let Some(reason) = depth.excess() {
            return Err(TooDeep { reason, span });
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Depth {
    levels: Vec<Level>,
    /// The sum of `operators` over all levels.
    operators: usize,
    queries: usize,
    /// The brackets of types that are open, each with the number of open levels around it.
    types: Vec<usize>,
    /// The brackets of array types since the last comma that ended a type.
    arrays: usize,
    before: Option<Keyword>,
    after_bracket: bool,
    after_period: bool,
}

impl Depth {
    fn excess(&self) -> Option<String> {
        if self.levels.len() - 1 > BRACKETS || self.types.len() + self.arrays > BRACKETS {
            return Some(format!("brackets nest deeper than {BRACKETS}"));
        }
        if self.operators > OPERATORS {
            return Some(format!(
                "one expression has more than {OPERATORS} operators; write a list, as in x IN (1, 2, …), or several statements"
            ));
        }
        (self.queries > QUERIES).then(|| {
            format!("the statement has more than {QUERIES} queries, joins and set operations; write several statements")
        })
    }

    fn take(&mut self, token: &Token) {
        let mut keyword = None;
        match token {
            Token::Whitespace(_) => return,
            Token::LParen | Token::LBracket | Token::LBrace => self.open(false),
            Token::RParen | Token::RBrace => self.close(false),
            Token::RBracket => {
                self.close(false);
                // Subscripts and brackets of array types are chains as well.
                self.operate();
                self.arrays += usize::from(self.after_bracket);
            }
            Token::Comma => self.separate(),
            Token::SemiColon => {}
            Token::Word(word) => {
                // Behind a period stands a name, whatever word it is.
                let is_name = word.quote_style.is_some() || self.after_period;
                let found = if is_name { Keyword::NoKeyword } else { word.keyword };
                self.word(found);
                keyword = Some(found);
            }
            Token::Number(..) | Token::Placeholder(_) => {}
            // Each operator of a pipe takes the query before it.
            Token::VerticalBarRightAngleBracket => {
                self.queries += 1;
                self.level().from = false;
            }
            token if is_text(token) => {}
            token => {
                let generic = matches!(self.before, Some(Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP));
                match token {
                    Token::Lt if generic => self.types.push(self.levels.len()),
                    Token::Gt => self.end_type(),
                    Token::ShiftRight => {
                        self.end_type();
                        self.end_type();
                    }
                    _ => {}
                }
                self.operate();
            }
        }
        self.after_bracket = *token == Token::LBracket;
        self.after_period = *token == Token::Period;
        self.before = keyword;
    }

    fn word(&mut self, keyword: Keyword) {
        use Keyword as K;
        match keyword {
            K::CASE => self.open(true),
            K::END => self.close(true),
            K::WHEN | K::THEN | K::ELSE if self.level().case => self.separate(),
            K::SELECT
            | K::JOIN
            | K::UNION
            | K::INTERSECT
            | K::EXCEPT
            | K::MINUS
            | K::APPLY
            | K::EXPLAIN
            | K::PIVOT
            | K::UNPIVOT
            | K::MATCH_RECOGNIZE
            | K::VALUES => {
                self.queries += 1;
                self.level().from = false;
            }
            // `a IS DISTINCT FROM b` has no tables.
            K::FROM => self.level().from = self.before != Some(K::DISTINCT),
            K::WHERE | K::GROUP | K::HAVING | K::ORDER | K::LIMIT | K::WINDOW | K::QUALIFY => self.level().from = false,
            K::AND
            | K::OR
            | K::XOR
            | K::NOT
            | K::IS
            | K::NOTNULL
            | K::IN
            | K::LIKE
            | K::ILIKE
            | K::RLIKE
            | K::REGEXP
            | K::SIMILAR
            | K::BETWEEN
            | K::DIV
            | K::COLLATE
            | K::AT
            | K::MEMBER
            | K::OVERLAPS
            | K::INTERVAL
            | K::OPERATOR => self.operate(),
            _ => {}
        }
    }

    fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn open(&mut self, case: bool) {
        self.levels.push(Level { case, ..Level::default() });
    }

    /// Closes the innermost level if it is of this kind. What closes nothing is left to the parser.
    fn close(&mut self, case: bool) {
        let ours = self.levels.last().is_some_and(|level| level.case == case);
        if self.levels.len() > 1 && ours {
            self.operators -= self.levels.pop().map_or(0, |level| level.operators);
        }
    }

    /// Closes the innermost bracket of a type. Within brackets of another kind, the sign compares.
    fn end_type(&mut self) {
        if self.types.last() == Some(&self.levels.len()) {
            self.types.pop();
        }
    }

    fn operate(&mut self) {
        self.level().operators += 1;
        self.operators += 1;
    }

    fn separate(&mut self) {
        if self.types.is_empty() {
            self.arrays = 0;
        }
        if self.level().from {
            self.queries += 1;
        }
        let ended = std::mem::take(&mut self.level().operators);
        self.operators -= ended;
    }
}

fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::Char(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}

#[cfg(test)]
mod tests {
    use crate::definition::tokens::tokens;

    #[track_caller]
    fn check(sql: &str, expect: Option<&str>) {
        let found = tokens(sql, 0);
        let outcome = super::check(found.iter().map(|t| (&t.parsed.token, None)));
        let start: String = sql.chars().take(60).collect();
        match (outcome.err().map(|e| e.reason), expect) {
            (None, None) => {}
            (Some(reason), Some(part)) => assert!(reason.contains(part), "{start}: {reason}"),
            (found, _) => panic!("{start}: {found:?}"),
        }
    }

    fn repeat(first: &str, more: &str, times: usize) -> String {
        format!("{first}{}", more.repeat(times))
    }

    #[test]
    fn chains_are_refused_however_they_are_written() {
        let operators = Some("operators");
        for more in [
            " OR a",
            "||'x'",
            "::INT",
            " IS NULL",
            " IS NOT NULL",
            " AND a = 1",
            "[1]",
            " COLLATE x",
            ".a",
            " AT TIME ZONE 'x'",
            " NOT LIKE 'x'",
            " BETWEEN 1 AND 2",
            "->'x'",
            "+1",
            "-(1)",
            "*a",
            "/ 2",
            "%2",
        ] {
            check(&repeat("SELECT a", more, 450), None);
            check(&repeat("SELECT a", more, 1_100), operators);
            check(&repeat("SELECT x, (SELECT f(1, a", more, 1_100), operators);
            check(&repeat("SELECT CASE WHEN a THEN b ELSE c", more, 1_100), operators);
        }
        let hidden = "t.end + (CASE WHEN a THEN ".repeat(60);
        check(&format!("SELECT CASE WHEN a THEN {hidden}{}", "a + ".repeat(960)), operators);
        check(&repeat("SELECT ", "NOT ", 1_100), operators);
        check(&repeat("SELECT ", "- ", 1_100), operators);
        check(&repeat("SELECT ", "INTERVAL ", 1_100), operators);
        check(&format!("SELECT 1{}", "+1".repeat(100_000)), operators);
        check(&format!("SELECT {}1{}", "(1 + ".repeat(100), "+1".repeat(950)), operators);
    }

    #[test]
    fn queries_in_queries_are_refused_however_they_are_written() {
        let queries = Some("queries");
        for more in [
            " UNION ALL SELECT 1",
            " UNION ALL SELECT 1, 2",
            " EXCEPT VALUES (1, 2)",
            " JOIN t ON a = b",
            ", t",
            ", LATERAL t",
        ] {
            check(&repeat("SELECT * FROM t", more, 100), None);
            check(&repeat("SELECT * FROM t", more, 300), queries);
        }
        let tables: Vec<String> = (0..300).map(|i| format!("a{i} AS (SELECT * FROM a)")).collect();
        check(&format!("WITH {} SELECT 1", tables.join(", ")), queries);
        check(&repeat("", "EXPLAIN ", 300), queries);
        for more in [" UNPIVOT(a FOR b IN (c))", " PIVOT(sum(a) FOR b IN (1))", " |> ORDER BY a, a", " |> LIMIT 1"] {
            check(&repeat("SELECT * FROM t", more, 100), None);
            check(&repeat("SELECT * FROM t", more, 300), queries);
        }
    }

    #[test]
    fn brackets_are_refused_however_they_are_written() {
        let brackets = Some("brackets");
        for open in ["(", "f(", "[", "CASE WHEN a THEN ", "CASE ", "(SELECT ", "x IN (", "CAST(", "{", "ARRAY<", "map<"]
        {
            check(&repeat("SELECT ", open, 100), None);
            check(&repeat("SELECT ", open, 140), brackets);
        }
        check(&repeat("SELECT x::INT", "[]", 140), brackets);
        check(&repeat("CREATE TABLE t (x ", "STRUCT<y INT, z ", 140), brackets);
        check(&repeat("CREATE TABLE t (x ", "STRUCT<y INT[] OPTIONS (a = 1 > 2), z ", 140), brackets);
        check(&repeat("CREATE TABLE t (x ", "STRUCT<y INT OPTIONS (a = 1 >> 2 >> 3), z ", 140), brackets);
        check(&repeat("CREATE TABLE t (x STRUCT<y INT", "[]", 140), brackets);
    }

    #[test]
    fn long_flat_statements_are_accepted() {
        let list = |one: &str, times: usize| vec![one; times].join(", ");
        check(&format!("SELECT a FROM t WHERE a IN ({})", list("-1", 100_000)), None);
        check(&format!("SELECT {} FROM t GROUP BY {}", list("a + b", 5_000), list("(a - 1) * 2", 5_000)), None);
        check(&format!("VALUES {}", list("(1, -2)", 50_000)), None);
        check(&format!("SELECT CASE {} ELSE -1 END", "WHEN a = 1 AND b = 2 THEN 3 + 4 ".repeat(10_000)), None);
        check(&format!("SELECT {}", list("'+ + + + +'", 10_000)), None);
        check(&format!("SELECT 1 -- {}", "+ 1".repeat(10_000)), None);
        let columns = list("c", 500);
        check(&format!("SELECT a IS DISTINCT FROM b, {columns} FROM t"), None);
        check(&format!("SELECT CASE {} END", "WHEN t.end = 1 AND t.case > 2 THEN 3 + 4 ".repeat(2_000)), None);
        check("SELECT a AS end, b FROM t ORDER BY a, b; ))) ]", None);
        for wide in ["STRUCT<x INT>", "STRUCT<x STRUCT<y ARRAY<INT>>>", "INT[][]", "STRUCT<x INT[]>[]"] {
            let columns: Vec<String> = (0..1_000).map(|at| format!("c{at} {wide}")).collect();
            check(&format!("CREATE TABLE t ({})", columns.join(", ")), None);
        }
        check(&format!("SELECT {}", list("x > y::INT[]", 1_000)), None);
    }
}
