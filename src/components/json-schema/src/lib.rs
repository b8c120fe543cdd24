//! JSON Schema of draft 7, by the crate `jsonschema`, which is built without support for remote
//! references. Functions recurse, on the caller's stack.

use std::fmt;

use jsonschema::{ValidationError, Validator};
use serde_json::Value;

pub struct Schema(Validator);

/// Why a value is not valid. Displaying it quotes the value, which may be long.
pub struct Problem<'a>(ValidationError<'a>);

impl Schema {
    /// Fails if `schema` is not a JSON Schema. Formats are not checked.
    pub fn compile(schema: &Value) -> Result<Self, Problem<'_>> {
        jsonschema::draft7::options().should_validate_formats(false).build(schema).map(Schema).map_err(Problem)
    }

    pub fn is_valid(&self, value: &Value) -> bool {
        self.0.is_valid(value)
    }

    /// The first problems of an invalid value. All are found, whatever `count` is.
    pub fn problems<'a>(&'a self, value: &'a Value, count: usize) -> Vec<Problem<'a>> {
        self.0.iter_errors(value).take(count).map(Problem).collect()
    }

    /// The first problem of an invalid value; the others are not searched for.
    pub fn first_problem<'a>(&'a self, value: &'a Value) -> Option<Problem<'a>> {
        self.0.validate(value).err().map(Problem)
    }
}

impl Problem<'_> {
    /// The JSON pointer of the part that is not valid.
    pub fn place(&self) -> &str {
        self.0.instance_path().as_str()
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(to)
    }
}
