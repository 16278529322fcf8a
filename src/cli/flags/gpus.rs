//! `--gpus all`, `--gpus 2`, `--gpus device=0`, `--gpus '"device=0,1",capabilities=compute'`.
//!
//! Source: docker/cli `opts/gpus.go`: fields of a line of CSV; the first one may be a number without a key.

use crate::cli::Mistake;
use crate::model::project::DeviceRequest;

/// Reads the flag. Errors: an unknown key, a count that is none, or a count beside devices.
pub(super) fn parse(text: &str) -> Result<DeviceRequest, Mistake> {
    let wrong = |reason: &str| Mistake::value("--gpus", text, reason);
    let mut request = DeviceRequest::default();
    let mut last = "";
    for (number, field) in fields(text).into_iter().enumerate() {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, value),
            None if number == 0 => ("count", field.as_str()),
            // `device=0,1` as it is typed, without the quotes that CSV would need.
            None if last == "device" => ("device", field.as_str()),
            None => return Err(wrong("it takes all, a number, or device=, count=, driver=, capabilities=")),
        };
        let list = || value.split(',').filter(|part| !part.is_empty()).map(str::to_owned);
        last = match key {
            "device" => {
                request.device_ids.extend(list());
                "device"
            }
            "count" => {
                let count =
                    if value == "all" { Some(-1) } else { value.parse().ok().filter(|count: &i64| *count >= -1) };
                request.count = Some(count.ok_or_else(|| wrong("a count is a number or `all`"))?.into());
                "count"
            }
            "driver" => {
                request.driver = Some(value.to_owned());
                "driver"
            }
            // All that a request is found by is `gpu`; what else it can do is for the driver's own tools.
            "capabilities" => {
                request.capabilities.extend(list());
                "capabilities"
            }
            "options" => "options",
            _ => return Err(wrong("the keys are device, count, driver, capabilities and options")),
        };
    }
    if request.count.is_some() && !request.device_ids.is_empty() {
        return Err(wrong("it takes a count or devices, not both"));
    }
    if request.device_ids.is_empty() && request.count.is_none() {
        request.count = Some(1.into());
    }
    if !request.capabilities.iter().any(|capability| capability == "gpu") {
        request.capabilities.push("gpu".to_owned());
    }
    Ok(request)
}

/// The fields of a line of CSV.
fn fields(text: &str) -> Vec<String> {
    let mut quoted = false;
    let is_end = |character: char| {
        quoted ^= character == '"';
        character == ',' && !quoted
    };
    text.split(is_end).map(|field| field.replace('"', "")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_forms_are_understood() {
        let check = |text: &str| {
            let request = parse(text).map_err(|mistake| mistake.to_string())?;
            let count = request.count.map(|count| count.to_string()).unwrap_or_default();
            Ok::<_, String>(format!("{count} {} {}", request.device_ids.join("+"), request.driver.unwrap_or_default()))
        };
        for (text, expected) in [
            ("all", "-1  "),
            ("2", "2  "),
            ("device=0", " 0 "),
            ("\"device=0,1\"", " 0+1 "),
            ("device=0,1", " 0+1 "),
            ("device=GPU-3a23c669", " GPU-3a23c669 "),
            ("count=all,driver=nvidia", "-1  nvidia"),
            ("all,capabilities=utility", "-1  "),
            ("driver=nvidia", "1  nvidia"),
        ] {
            assert_eq!(check(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["some", "all,device=0", "colour=red", "count=-2", "2,3"] {
            assert!(check(text).unwrap_err().contains("--gpus"), "{text}");
        }
        assert_eq!(parse("all,\"capabilities=compute,utility\"").unwrap().capabilities, ["compute", "utility", "gpu"]);
    }
}
