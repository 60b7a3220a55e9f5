//! `model.device`: where the language model computes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::diagnostic::nearest;

/// A device as a spec names it: `cpu`, `cuda` (the first GPU, `cuda:0`), `cuda:N` or `auto`. Whether this build and this machine have it is
/// found when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, counted as the driver counts.
    Cuda(usize),
    /// The first GPU where there is one, else the processor.
    Auto,
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(0)),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        // Digits alone: `usize` would also take a plus sign.
        let digits = text.strip_prefix("cuda:").filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|number| number.parse().ok()).map(Self::Cuda).ok_or_else(|| unknown(text))
    }
}

fn unknown(text: &str) -> String {
    let meant = match text.to_ascii_lowercase().as_str() {
        "gpu" | "nvidia" => Some("cuda"),
        word => nearest(word, ["cpu", "cuda", "cuda:0", "auto"]),
    };
    let meant = meant.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    format!("unknown device `{text}`, expected `cpu`, `cuda`, `cuda:N` (N counts from 0) or `auto`{meant}")
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(device: DeviceName) -> Self {
        device.to_string()
    }
}

impl JsonSchema for DeviceName {
    fn schema_name() -> Cow<'static, str> {
        "DeviceName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "`model.device`", "type": "string", "pattern": "^(cpu|cuda(:[0-9]+)?|auto)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for (text, device) in
            [("cpu", DeviceName::Cpu), ("auto", DeviceName::Auto), ("cuda", DeviceName::Cuda(0)), ("cuda:3", DeviceName::Cuda(3))]
        {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!(read("", &[]).unwrap().model.device, DeviceName::Cpu);
    }

    #[test]
    fn what_is_no_device_is_named_with_the_nearest() {
        for (text, meant) in [("cudda", "`cuda`?"), ("CPU", "`cpu`?"), ("gpu", "`cuda`?"), ("cuda0", "`cuda:0`?"), ("Auto", "`auto`?")] {
            let error = text.parse::<DeviceName>().unwrap_err();
            assert!(error.contains(&format!("unknown device `{text}`")) && error.ends_with(meant), "{error}");
        }
        for text in ["cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:1 ", "", "tpu", "cuda:99999999999999999999999"] {
            assert!(text.parse::<DeviceName>().unwrap_err().contains("expected `cpu`"), "{text}");
        }
    }

    #[test]
    fn a_misspelt_device_is_a_problem_with_its_line() {
        let error = read("[model]\ndevice = \"cudda\"\n", &[]).unwrap_err().to_string();
        assert!(error.contains("line 2: `model.device` is \"cudda\": unknown device") && error.contains("did you mean `cuda`?"), "{error}");
    }
}
