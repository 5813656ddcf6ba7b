//! Numbers as people read them.

/// A number with a metric suffix: `25.6 M`.
pub fn count(n: f64) -> String {
    scaled(n, &["", " k", " M", " G", " T"])
}

/// A size in bytes: `102.2 MB`.
pub fn bytes(n: usize) -> String {
    scaled(n as f64, &[" B", " kB", " MB", " GB", " TB"])
}

fn scaled(mut n: f64, suffixes: &[&str]) -> String {
    let mut i = 0;
    while n.abs() >= 1000.0 && i + 1 < suffixes.len() {
        n /= 1000.0;
        i += 1;
    }
    let digits = match n.abs() {
        _ if i == 0 => 0,
        x if x < 10.0 => 2,
        x if x < 100.0 => 1,
        _ => 0,
    };
    format!("{n:.digits$}{}", suffixes[i])
}

/// Change in percent: `-27.3 %`; empty when there is nothing to compare with.
pub fn change(before: f64, after: f64) -> String {
    if before == 0.0 || before == after {
        return if before == after { "=".into() } else { String::new() };
    }
    format!("{:+.1} %", (after / before - 1.0) * 100.0)
}

/// A share as percent: `12.5 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Three significant digits: `0.0123`, `38.4`, `1.20e-7`.
pub fn short(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        1e-3..1e5 => {
            let digits = (2 - x.abs().log10().floor() as i32).max(0) as usize;
            format!("{x:.digits$}")
        }
        _ => format!("{x:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(count(999.0), "999");
        assert_eq!(count(25_557_032.0), "25.6 M");
        assert_eq!(bytes(102_170_000), "102 MB");
        assert_eq!(change(4.0, 3.0), "-25.0 %");
        assert_eq!(change(4.0, 4.0), "=");
        assert_eq!(
            [short(0.0), short(0.01234), short(38.44), short(-123456.0)].join(" "),
            "0 0.0123 38.4 -1.23e5"
        );
    }
}
