//! Text -> nodes.
//!
//! Source: <https://pkg.go.dev/text/template>, "Actions", "Pipelines", "Variables".

use serde_json::Value;

use super::{Node, Operand, Pipeline};

/// Deepest nesting of blocks and parentheses: a template is a user's text, not a program.
const DEPTH_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// `.`, `.Name`, `.Config.Image`: the names, without dots.
    Field(Vec<String>),
    /// `$`, `$x`, `$x.Name`: the name without `$`, then fields.
    Variable(String, Vec<String>),
    Literal(Value),
    Word(String),
    Pipe,
    Open,
    Close,
    Comma,
    Assign,
}

/// A piece of the template: text, or an action's tokens.
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let pieces = split(text)?;
    let mut parser = Parser { pieces: pieces.into_iter(), depth: 0 };
    let (nodes, end) = parser.block()?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::Else(_) => Err("`{{else}}` without an `{{if}}`, `{{range}}` or `{{with}}` before it".into()),
        Stop::End => Err("`{{end}}` without an `{{if}}`, `{{range}}` or `{{with}}` before it".into()),
    }
}

/// Cuts at `{{` and `}}`; `{{-` and `-}}` take the white space beside them away.
fn split(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let (mut rest, mut trim) = (text, false);
    loop {
        let trimmed = |text: &str| if trim { text.trim_start().to_owned() } else { text.to_owned() };
        let Some(start) = rest.find("{{") else {
            pieces.push(Piece::Text(unescape(&trimmed(rest))));
            return Ok(pieces);
        };
        let mut before = trimmed(&rest[..start]);
        let mut body = &rest[start + 2..];
        if body.starts_with("- ") {
            body = &body[1..];
            before.truncate(before.trim_end().len());
        }
        let end = closing(body).ok_or("`{{` is never closed by `}}`")?;
        rest = &body[end + 2..];
        let inner = &body[..end];
        trim = inner.ends_with(" -");
        let inner = if trim { &inner[..inner.len() - 1] } else { inner };
        pieces.push(Piece::Text(unescape(&before)));
        let is_comment = inner.trim().starts_with("/*") && inner.trim().ends_with("*/");
        if !is_comment {
            pieces.push(Piece::Action(tokens(inner)?));
        }
    }
}

/// Where `}}` stands outside of quotes.
fn closing(body: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (place, character) in body.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if character == '"' || character == '`' => quote = Some(character),
            None if body[place..].starts_with("}}") => return Some(place),
            None => {}
        }
    }
    None
}

/// The shell hands `\t` and `\n` through as two characters; Docker makes them one.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '|' => push(&mut tokens, Token::Pipe, 1),
            '(' => push(&mut tokens, Token::Open, 1),
            ')' => push(&mut tokens, Token::Close, 1),
            ',' => push(&mut tokens, Token::Comma, 1),
            ':' if rest.starts_with(":=") => push(&mut tokens, Token::Assign, 2),
            '=' => push(&mut tokens, Token::Assign, 1),
            '.' => {
                let length = word(rest, |c| is_name(c) || c == '.');
                push(&mut tokens, Token::Field(names(&rest[..length])), length)
            }
            '$' => {
                let length = 1 + word(&rest[1..], |c| is_name(c) || c == '.');
                let (name, fields) = rest[1..length].split_once('.').unwrap_or((&rest[1..length], ""));
                push(&mut tokens, Token::Variable(name.to_owned(), names(fields)), length)
            }
            '`' => {
                let end = rest[1..].find('`').ok_or("a text in backquotes is never closed")?;
                push(&mut tokens, Token::Literal(rest[1..=end].into()), end + 2)
            }
            '"' => {
                let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let value = stream.next().and_then(Result::ok).ok_or_else(|| format!("bad text {rest}"))?;
                let length = stream.byte_offset();
                push(&mut tokens, Token::Literal(value.into()), length)
            }
            '0'..='9' | '-' => {
                let length = 1 + word(&rest[1..], |c| c.is_ascii_digit() || c == '.');
                let number = serde_json::from_str(&rest[..length]).map_err(|_| format!("bad number `{rest}`"))?;
                push(&mut tokens, Token::Literal(number), length)
            }
            _ if is_name(first) => {
                let length = word(rest, is_name);
                let token = match &rest[..length] {
                    "true" => Token::Literal(true.into()),
                    "false" => Token::Literal(false.into()),
                    "nil" => Token::Literal(Value::Null),
                    name => Token::Word(name.to_owned()),
                };
                push(&mut tokens, token, length)
            }
            other => return Err(format!("`{other}` means nothing in `{{{{{}}}}}`", text.trim())),
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn push(tokens: &mut Vec<Token>, token: Token, length: usize) -> usize {
    tokens.push(token);
    length
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn word(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|character| !belongs(character)).unwrap_or(text.len())
}

fn names(text: &str) -> Vec<String> {
    text.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What ended a block.
enum Stop {
    Text,
    End,
    /// With the tokens behind `else`.
    Else(Vec<Token>),
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

impl Parser {
    fn block(&mut self) -> Result<(Vec<Node>, Stop), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("blocks are nested deeper than {DEPTH_MAX}"));
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) if text.is_empty() => continue,
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let keyword = match tokens.first() {
                Some(Token::Word(word)) => word.clone(),
                None => return Err("`{{}}` says nothing".into()),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" => {
                    self.depth -= 1;
                    return Ok((nodes, Stop::End));
                }
                "else" => {
                    self.depth -= 1;
                    return Ok((nodes, Stop::Else(tokens[1..].to_vec())));
                }
                "if" | "range" | "with" => nodes.push(self.conditional(&keyword, &tokens[1..])?),
                "template" | "define" | "block" | "break" | "continue" => {
                    return Err(format!("`{{{{{keyword}}}}}` is not there"));
                }
                _ => {
                    let (variables, pipeline) = declared(&tokens)?;
                    nodes.push(match variables.as_slice() {
                        [] => Node::Print(pipeline),
                        [name] => Node::Set(name.clone(), pipeline),
                        _ => return Err("two variables can be set by `range` only".into()),
                    });
                }
            }
        }
        self.depth -= 1;
        Ok((nodes, Stop::Text))
    }

    /// From behind the keyword to the `{{end}}`.
    fn conditional(&mut self, keyword: &str, tokens: &[Token]) -> Result<Node, String> {
        let (variables, pipeline) = declared(tokens)?;
        let (body, end) = self.block()?;
        let otherwise = match end {
            Stop::Text => return Err(format!("`{{{{{keyword}}}}}` has no `{{{{end}}}}`")),
            Stop::End => Vec::new(),
            Stop::Else(tokens) => match tokens.first() {
                None => match self.block()? {
                    (nodes, Stop::End) => nodes,
                    _ => return Err("`{{else}}` has no `{{end}}`".into()),
                },
                Some(Token::Word(word)) if word == "if" || word == "with" => {
                    vec![self.conditional(word, &tokens[1..])?]
                }
                Some(_) => return Err("`{{else}}` takes nothing but `if` or `with`".into()),
            },
        };
        Ok(match keyword {
            "range" => Node::Range { variables, pipeline, body, otherwise },
            "with" => Node::With { variables, pipeline, body, otherwise },
            _ => Node::If { variables, pipeline, body, otherwise },
        })
    }
}

/// `$x := pipeline`, `$k, $v := pipeline`, or a pipeline alone.
fn declared(tokens: &[Token]) -> Result<(Vec<String>, Pipeline), String> {
    let (names, rest): (Vec<String>, &[Token]) = match tokens {
        [Token::Variable(name, _), Token::Assign, rest @ ..] => (vec![name.clone()], rest),
        [Token::Variable(key, _), Token::Comma, Token::Variable(value, _), Token::Assign, rest @ ..] => {
            (vec![key.clone(), value.clone()], rest)
        }
        rest => (Vec::new(), rest),
    };
    let mut place = 0;
    let pipeline = pipeline(rest, &mut place, 0)?;
    if place < rest.len() {
        return Err("`)` closes nothing".into());
    }
    Ok((names, pipeline))
}

fn pipeline(tokens: &[Token], place: &mut usize, depth: usize) -> Result<Pipeline, String> {
    if depth > DEPTH_MAX {
        return Err(format!("parentheses are nested deeper than {DEPTH_MAX}"));
    }
    let mut commands = vec![Vec::new()];
    while let Some(token) = tokens.get(*place) {
        *place += 1;
        let operand = match token {
            Token::Pipe => {
                commands.push(Vec::new());
                continue;
            }
            Token::Close => {
                *place -= 1;
                break;
            }
            Token::Open => {
                let inner = pipeline(tokens, place, depth + 1)?;
                if tokens.get(*place) != Some(&Token::Close) {
                    return Err("`(` is never closed".into());
                }
                *place += 1;
                // `(index .X 0).Name`
                let fields = match tokens.get(*place) {
                    Some(Token::Field(fields)) if !fields.is_empty() => {
                        *place += 1;
                        fields.clone()
                    }
                    _ => Vec::new(),
                };
                Operand::Group(inner, fields)
            }
            Token::Field(names) => Operand::Field(names.clone()),
            Token::Variable(name, fields) => Operand::Variable(name.clone(), fields.clone()),
            Token::Literal(value) => Operand::Literal(value.clone()),
            Token::Word(name) => Operand::Function(name.clone()),
            Token::Comma | Token::Assign => return Err("`,` and `=` are for variables".into()),
        };
        if let Some(command) = commands.last_mut() {
            command.push(operand);
        }
    }
    if commands.iter().any(Vec::is_empty) {
        return Err("a value is missing beside `|`".into());
    }
    Ok(commands)
}
