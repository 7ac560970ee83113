//! The formula that turns the values of a sample into its reward.
//!
//! ```text
//! sum     = product { ("+" | "-") product }
//! product = factor { ("*" | "/") factor }
//! factor  = ("+" | "-") factor | number | name | "(" sum ")"
//! ```

use thiserror::Error;

/// Longest formula, in bytes. It bounds how deep its tree can be.
const MAX_LENGTH: usize = 4096;
/// Deepest nesting of parentheses and signs.
const MAX_DEPTH: usize = 64;

/// A formula is not well-formed, or uses a name that has no value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("formula \"{formula}\", column {column}: {problem}")]
pub struct FormulaError {
    /// The formula as it was written.
    pub formula: String,
    /// The position of the problem in characters, from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub problem: String,
}

/// An arithmetic expression over named values.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    text: String,
    root: Node,
    /// Each name once, in order of first use, with its column.
    names: Vec<String>,
    columns: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Number(f64),
    Name(String),
    Negative(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Formula {
    /// Reads a formula of numbers, names, `+ - * /` and parentheses.
    ///
    /// # Errors
    /// The formula is not well-formed. [`Formula::require_known`] checks whether its names exist.
    pub fn parse(text: &str) -> Result<Self, FormulaError> {
        let mut parser = Parser::new(text);
        if text.len() > MAX_LENGTH {
            return Err(parser.error(format!(
                "{} bytes are too long; the limit is {MAX_LENGTH}",
                text.len()
            )));
        }
        let root = parser.sum()?;
        parser.skip_spaces();
        if let Some(found) = parser.peek() {
            let problem = if found == ')' {
                "this `)` has no matching `(`; remove it or add a `(` before it".to_owned()
            } else {
                format!("expected `+`, `-`, `*`, `/` or the end, found `{found}`")
            };
            return Err(parser.error(problem));
        }
        let (names, columns) = parser.names.into_iter().unzip();
        Ok(Self {
            text: text.to_owned(),
            root,
            names,
            columns,
        })
    }

    /// The names the formula uses, each once, in order of first use.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The formula as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks that every name is one of `known`.
    ///
    /// # Errors
    /// The first name that is not, with the nearest known name and all known names.
    pub fn require_known<S: AsRef<str>>(&self, known: &[S]) -> Result<(), FormulaError> {
        for (name, column) in self.names.iter().zip(&self.columns) {
            if known.iter().any(|candidate| candidate.as_ref() == name) {
                continue;
            }
            let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
            let nearest = known
                .iter()
                .map(|candidate| (strsim::damerau_levenshtein(candidate, name), candidate))
                .filter(|(distance, candidate)| *distance <= candidate.len() / 2)
                .min_by_key(|(distance, _)| *distance)
                .map(|(_, candidate)| format!(" Did you mean `{candidate}`?"))
                .unwrap_or_default();
            return Err(FormulaError {
                formula: self.text.clone(),
                column: *column,
                problem: format!(
                    "there is no reward named `{name}`.{nearest} The known names are: {}",
                    known.join(", ")
                ),
            });
        }
        Ok(())
    }

    /// The formula's value, or `None` if values that it needs are missing.
    ///
    /// In a weighted sum the term of a missing value is skipped, as TRL does if a reward function
    /// returns `None`; at least one value must exist. Any other formula needs all of its values.
    /// Division by 0 gives an infinity or NaN, as it does for `f64`.
    pub fn evaluate(&self, value_of: &dyn Fn(&str) -> Option<f64>) -> Option<f64> {
        let has_value = |name: &String| value_of(name).is_some();
        if self.root.degree() == Some(1) && self.names.iter().any(has_value) {
            return evaluate(&self.root, &|name| Some(value_of(name).unwrap_or(0.0)));
        }
        evaluate(&self.root, value_of)
    }

    /// The weight of each name if the formula is a weighted sum (with or without a constant), in the
    /// order of [`Formula::names`]; else `None`.
    pub fn weights(&self) -> Option<Vec<f64>> {
        self.root.degree()?;
        let at = |one: &str| evaluate(&self.root, &|name| Some(f64::from(name == one)));
        let constant = at("")?;
        self.names
            .iter()
            .map(|name| Some(at(name)? - constant))
            .collect()
    }
}

impl Node {
    /// 0 for a constant, 1 for a weighted sum of names; `None` for anything else.
    fn degree(&self) -> Option<u8> {
        match self {
            Self::Number(_) => Some(0),
            Self::Name(_) => Some(1),
            Self::Negative(inner) => inner.degree(),
            Self::Binary(operator, left, right) => {
                match (operator, left.degree()?, right.degree()?) {
                    (Operator::Add | Operator::Subtract, left, right) => Some(left.max(right)),
                    (Operator::Multiply, left, right) => {
                        (left + right <= 1).then_some(left + right)
                    }
                    (Operator::Divide, left, 0) => Some(left),
                    (Operator::Divide, _, _) => None,
                }
            }
        }
    }
}

fn evaluate(node: &Node, value_of: &dyn Fn(&str) -> Option<f64>) -> Option<f64> {
    match node {
        Node::Number(number) => Some(*number),
        Node::Name(name) => value_of(name),
        Node::Negative(inner) => Some(-evaluate(inner, value_of)?),
        Node::Binary(operator, left, right) => {
            let left = evaluate(left, value_of)?;
            let right = evaluate(right, value_of)?;
            Some(match operator {
                Operator::Add => left + right,
                Operator::Subtract => left - right,
                Operator::Multiply => left * right,
                Operator::Divide => left / right,
            })
        }
    }
}

/// Whether `name` can be used in a formula: a letter or `_`, then letters, digits and `_`.
pub fn is_identifier(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(starts_name) && characters.all(continues_name)
}

fn starts_name(character: char) -> bool {
    character.is_alphabetic() || character == '_'
}

fn continues_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Recursive descent over the characters of a formula.
struct Parser<'a> {
    text: &'a str,
    characters: Vec<char>,
    at: usize,
    depth: usize,
    names: Vec<(String, usize)>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            characters: text.chars().collect(),
            at: 0,
            depth: 0,
            names: Vec::new(),
        }
    }

    fn error(&self, problem: String) -> FormulaError {
        self.error_at(self.at, problem)
    }

    fn error_at(&self, at: usize, problem: String) -> FormulaError {
        FormulaError {
            formula: self.text.to_owned(),
            column: at + 1,
            problem,
        }
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Reads the next operator if it is one of `among`.
    fn operator(&mut self, among: &[(char, Operator)]) -> Option<Operator> {
        self.skip_spaces();
        let next = self.peek()?;
        let (_, operator) = among.iter().find(|(sign, _)| *sign == next)?;
        self.at += 1;
        Some(*operator)
    }

    fn sum(&mut self) -> Result<Node, FormulaError> {
        const SIGNS: [(char, Operator); 2] = [('+', Operator::Add), ('-', Operator::Subtract)];
        let mut left = self.product()?;
        while let Some(operator) = self.operator(&SIGNS) {
            left = Node::Binary(operator, Box::new(left), Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Node, FormulaError> {
        const SIGNS: [(char, Operator); 2] = [('*', Operator::Multiply), ('/', Operator::Divide)];
        let mut left = self.factor()?;
        while let Some(operator) = self.operator(&SIGNS) {
            left = Node::Binary(operator, Box::new(left), Box::new(self.factor()?));
        }
        Ok(left)
    }

    fn factor(&mut self) -> Result<Node, FormulaError> {
        self.skip_spaces();
        let Some(next) = self.peek() else {
            return Err(self.error("expected a number, a name or `(`, found the end".to_owned()));
        };
        match next {
            '+' | '-' | '(' => {
                if self.depth == MAX_DEPTH {
                    return Err(self.error(format!("nested deeper than {MAX_DEPTH}")));
                }
                self.depth += 1;
                let node = self.nested(next);
                self.depth -= 1;
                node
            }
            '.' | '0'..='9' => self.number(),
            _ if starts_name(next) => Ok(self.name()),
            _ => Err(self.error(format!("expected a number, a name or `(`, found `{next}`"))),
        }
    }

    /// Parses what follows a sign or an opening parenthesis.
    fn nested(&mut self, opening: char) -> Result<Node, FormulaError> {
        let opened_at = self.at;
        self.at += 1;
        match opening {
            '+' => self.factor(),
            '-' => Ok(Node::Negative(Box::new(self.factor()?))),
            _ => {
                let inner = self.sum()?;
                self.skip_spaces();
                match self.peek() {
                    Some(')') => {
                        self.at += 1;
                        Ok(inner)
                    }
                    Some(found) => Err(self.error(format!(
                        "expected `+`, `-`, `*`, `/` or `)`, found `{found}`"
                    ))),
                    None => {
                        Err(self.error_at(opened_at, "this `(` is never closed by `)`".to_owned()))
                    }
                }
            }
        }
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|next| next.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// `12`, `1.5`, `.5`, `1e-3`. An `e` without digits is not part of the number.
    fn number(&mut self) -> Result<Node, FormulaError> {
        let start = self.at;
        self.digits();
        if self.peek() == Some('.') {
            self.at += 1;
            self.digits();
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            let before_exponent = self.at;
            self.at += 1;
            if matches!(self.peek(), Some('+' | '-')) {
                self.at += 1;
            }
            let first_digit = self.at;
            self.digits();
            if self.at == first_digit {
                self.at = before_exponent;
            }
        }
        let text: String = self.characters[start..self.at].iter().collect();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Node::Number(number)),
            _ => Err(self.error_at(start, format!("`{text}` is not a finite number"))),
        }
    }

    fn name(&mut self) -> Node {
        let start = self.at;
        while self.peek().is_some_and(continues_name) {
            self.at += 1;
        }
        let name: String = self.characters[start..self.at].iter().collect();
        if self.names.iter().all(|(known, _)| *known != name) {
            self.names.push((name.clone(), start + 1));
        }
        Node::Name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = "(bertscore + exact_match + (format + 3*rouge1)/2)/3";

    fn value(formula: &str) -> f64 {
        let formula = Formula::parse(formula).unwrap();
        formula.evaluate(&|_| None).unwrap()
    }

    #[test]
    fn the_default_formula_reaches_four_thirds() {
        let formula = Formula::parse(DEFAULT).unwrap();
        assert_eq!(
            formula.names(),
            ["bertscore", "exact_match", "format", "rouge1"]
        );
        assert_eq!(formula.evaluate(&|_| Some(1.0)), Some(4.0 / 3.0));
        assert_eq!(formula.evaluate(&|_| Some(0.0)), Some(0.0));
        let values = |name: &str| {
            Some(match name {
                "bertscore" => 0.7,
                "exact_match" => 1.0,
                "format" => 1.0,
                _ => 0.5,
            })
        };
        let total = formula.evaluate(&values).unwrap();
        assert!((total - (0.7 + 1.0 + (1.0 + 1.5) / 2.0) / 3.0).abs() < 1e-15);
    }

    #[test]
    fn operators_bind_as_in_arithmetic() {
        assert_eq!(value("1+2*3"), 7.0);
        assert_eq!(value("10-2-3"), 5.0);
        assert_eq!(value("12/3/2"), 2.0);
        assert_eq!(value("-2*-3"), 6.0);
        assert_eq!(value("2 - -3"), 5.0);
        assert_eq!(value("-(1 + .5)*2"), -3.0);
        assert_eq!(value("1.5e1 + 2E-1"), 15.2);
    }

    #[test]
    fn a_missing_value_is_left_out_of_a_weighted_sum_and_makes_anything_else_missing() {
        let only_a = |name: &str| (name == "a").then_some(2.0);
        for (text, value) in [
            ("a + 3*b", Some(2.0)),
            ("(b - a)/4 + 1", Some(0.5)),
            ("a*b", None),
            ("a/b", None),
            ("b", None),
            ("7", Some(7.0)),
        ] {
            assert_eq!(
                Formula::parse(text).unwrap().evaluate(&only_a),
                value,
                "{text}"
            );
        }
    }

    #[test]
    fn weights_are_those_of_a_sum() {
        let weights = |text: &str| Formula::parse(text).unwrap().weights();
        assert_eq!(
            weights("(a + b + (c + 3*d)/2)/4"),
            Some(vec![0.25, 0.25, 0.125, 0.375])
        );
        assert_eq!(weights("1 - -(2*b) + b"), Some(vec![3.0]));
        assert_eq!(weights("a*b"), None);
        assert_eq!(weights("1/a"), None);
        assert_eq!(weights("(a + 1)*(2/4)"), Some(vec![0.5]));
    }

    #[test]
    fn errors_name_the_column_and_the_problem() {
        for (formula, column, part) in [
            ("", 1, "found the end"),
            ("1 +", 4, "found the end"),
            ("(1 + 2", 1, "never closed"),
            ("1 + 2)", 6, "has no matching"),
            ("3rouge1", 2, "found `r`"),
            ("a b", 3, "found `b`"),
            ("a ** b", 4, "found `*`"),
            ("max(a, b)", 4, "found `(`"),
            ("(a, b)", 3, "found `,`"),
            ("1e999", 1, "not a finite number"),
            (".", 1, "not a finite number"),
            ("한국 + %", 6, "found `%`"),
        ] {
            let error = Formula::parse(formula).unwrap_err();
            assert_eq!(error.column, column, "{error}");
            assert!(error.problem.contains(part), "{error}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_and_all_known() {
        let formula = Formula::parse("format + rogue1").unwrap();
        let error = formula
            .require_known(&["format", "exact_match", "rouge1"])
            .unwrap_err();
        assert_eq!(error.column, 10);
        assert_eq!(
            error.to_string(),
            "formula \"format + rogue1\", column 10: there is no reward named `rogue1`. Did you \
             mean `rouge1`? The known names are: format, exact_match, rouge1"
        );
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{}1{}", "(".repeat(65), ")".repeat(65));
        assert!(
            Formula::parse(&deep)
                .unwrap_err()
                .problem
                .contains("deeper")
        );
        let long = "1+".repeat(3000) + "1";
        assert!(Formula::parse(&long).unwrap_err().problem.contains("long"));
        assert_eq!(value(&("1+".repeat(2000) + "1")), 2001.0);
    }

    #[test]
    fn identifiers_are_names_that_a_formula_can_use() {
        for name in ["a", "_x1", "length_penalty", "길이"] {
            assert!(is_identifier(name), "{name}");
        }
        for name in ["", "1a", "a-b", "a b", "a.b"] {
            assert!(!is_identifier(name), "{name}");
        }
    }
}
