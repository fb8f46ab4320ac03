//! Quoted texts.

/// Go's escapes inside quotes.
pub fn unquote(text: &str) -> Result<String, String> {
    let bad = || format!("unquote string {text} error invalid syntax");
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next().ok_or_else(bad)? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'u' => coded(&mut chars, 4).ok_or_else(bad)?,
            'U' => coded(&mut chars, 8).ok_or_else(bad)?,
            'x' => coded(&mut chars, 2).ok_or_else(bad)?,
            same @ ('\\' | '"' | '\'') => same,
            _ => return Err(bad()),
        });
    }
    Ok(out)
}

fn coded(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let code: String = chars.take(digits).collect();
    char::from_u32(u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits)?)
}
