//! Numbers as people read them.

/// A number with a metric suffix: `25.6 M`.
pub fn count(n: f64) -> String {
    scaled(n, 1000.0, &["", " k", " M", " G", " T"])
}

/// A size in bytes: `102 MB`.
pub fn bytes(n: usize) -> String {
    scaled(n as f64, 1000.0, &[" B", " kB", " MB", " GB", " TB"])
}

fn scaled(mut n: f64, base: f64, suffixes: &[&str]) -> String {
    let mut i = 0;
    while n.abs() >= base && i + 1 < suffixes.len() {
        n /= base;
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
    }
}
