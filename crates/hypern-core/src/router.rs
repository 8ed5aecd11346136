//! Method and path become a route and its parameters, or the reason why there is none.
//!
//! A path is `/`-separated segments. A segment is static text, a parameter (`:id`, `{id}`, or `{id}` inside text as in
//! `img-{id}.png`) or, at the end only, a tail (`*path`, `{*path}`) that takes one or more segments. A trailing slash
//! makes another path. From the left, static text beats a parameter and a parameter beats a tail, in whatever order the
//! routes were added.
//!
//! Each method has its own routes: a path that a more specific route matches for another method alone still reaches the
//! less specific one, and the same place may have another parameter name in another method.
//!
//! Paths are compared as RFC 3986, section 6.2.2 has it: `/%61` is `/a`, and `/caf%C3%A9` is `/café`. An escaped slash
//! stays part of its segment.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use http::{HeaderValue, Method};
use memchr::memchr;
use percent_encoding::percent_decode_str;

/// Routes by method and path, built once and then shared.
#[derive(Debug)]
pub struct Router<T> {
    methods: Vec<(Method, Routes<T>)>,
}

/// The routes of one method. Those with a tail live apart, because matchit takes either a parameter or a tail in one
/// place, not both.
#[derive(Debug)]
struct Routes<T> {
    whole: matchit::Router<Route<T>>,
    tailed: matchit::Router<Route<T>>,
    paths_by_shape: HashMap<String, String>,
}

#[derive(Debug)]
struct Route<T> {
    value: T,
    names: Arc<[Box<str>]>,
    precedence: Box<[Precedence]>,
}

/// What a segment is worth against another one in its place; the lesser wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    Static,
    PartlyStatic,
    Parameter,
    Tail,
}

impl<T> Router<T> {
    /// A router without routes.
    pub fn new() -> Self {
        Self { methods: Vec::new() }
    }

    /// Adds a route.
    ///
    /// # Errors
    ///
    /// A path that is no pattern, the same method and shape for the second time, or two patterns of which neither is
    /// more specific than the other.
    pub fn insert(&mut self, method: Method, path: &str, value: T) -> Result<(), RouteError> {
        let pattern = Pattern::parse(path)?;
        let index = self.methods.iter().position(|(known, _)| *known == method).unwrap_or_else(|| {
            self.methods.push((method, Routes::new()));
            self.methods.len() - 1
        });
        let (method, routes) = &mut self.methods[index];
        routes.insert(method, path, pattern, value)
    }

    /// Finds the route of a request; `path` is as received, escapes included, without a query.
    ///
    /// Parameters are percent-decoded; escapes that are not UTF-8 lead to [`Lookup::NotFound`]. HEAD without a route of
    /// its own takes the one of GET (RFC 9110, section 9.3.2).
    pub fn find(&self, method: &Method, path: &str) -> Lookup<'_, T> {
        let Some(path) = normalize(path) else { return Lookup::NotFound };
        let found = self.find_in(method, &path).or_else(|| match *method {
            Method::HEAD => self.find_in(&Method::GET, &path),
            _ => None,
        });
        match found {
            Some((value, params)) => Lookup::Found { value, params },
            None => self.miss(method, &path),
        }
    }

    fn find_in(&self, method: &Method, path: &str) -> Option<(&T, Params)> {
        let (_, routes) = self.methods.iter().find(|(known, _)| known == method)?;
        routes.find(path)
    }

    fn miss(&self, method: &Method, path: &str) -> Lookup<'_, T> {
        let mut allowed: BTreeSet<&str> = self
            .methods
            .iter()
            .filter(|(_, routes)| routes.find(path).is_some())
            .map(|(known, _)| known.as_str())
            .collect();
        if allowed.is_empty() {
            return Lookup::NotFound;
        }
        if allowed.contains("GET") {
            allowed.insert("HEAD");
        }
        allowed.insert("OPTIONS");
        let names: Vec<&str> = allowed.into_iter().collect();
        let allow = HeaderValue::try_from(names.join(", ")).expect("a method is a token");
        match *method {
            Method::OPTIONS => Lookup::Options { allow },
            _ => Lookup::MethodNotAllowed { allow },
        }
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Routes<T> {
    fn new() -> Self {
        Self { whole: matchit::Router::new(), tailed: matchit::Router::new(), paths_by_shape: HashMap::new() }
    }

    fn insert(&mut self, method: &Method, path: &str, pattern: Pattern, value: T) -> Result<(), RouteError> {
        if let Some(existing) = self.paths_by_shape.get(&pattern.shape) {
            let (method, path, existing) = (method.clone(), path.to_owned(), existing.clone());
            return Err(RouteError::Duplicate { method, path, existing });
        }
        let has_tail = pattern.precedence.last() == Some(&Precedence::Tail);
        let router = if has_tail { &mut self.tailed } else { &mut self.whole };
        let route = Route { value, names: pattern.names.into(), precedence: pattern.precedence.into() };
        router.insert(pattern.matchit, route).map_err(|error| match error {
            matchit::InsertError::Conflict { with } => {
                RouteError::Conflict { method: method.clone(), path: path.to_owned(), with }
            }
            error => RouteError::syntax(path, error.to_string()),
        })?;
        self.paths_by_shape.insert(pattern.shape, path.to_owned());
        Ok(())
    }

    /// Finds the most specific route for a normalized path.
    fn find(&self, path: &str) -> Option<(&T, Params)> {
        let whole = self.whole.at(path).ok();
        let tailed = self.tailed.at(path).ok();
        let found = match (whole, tailed) {
            (Some(whole), Some(tailed)) if tailed.value.precedence < whole.value.precedence => tailed,
            (whole, tailed) => whole.or(tailed)?,
        };
        let values = found.params.iter().map(|(_, value)| decode(value)).collect::<Option<_>>()?;
        Some((&found.value.value, Params { names: Arc::clone(&found.value.names), values }))
    }
}

/// What [`Router::find`] found.
#[derive(Debug)]
pub enum Lookup<'r, T> {
    /// A route and what its parameters stand for.
    Found {
        /// What was inserted.
        value: &'r T,
        /// The parameters, in the order of the path.
        params: Params,
    },
    /// No route has this path, whatever the method: 404.
    NotFound,
    /// The path exists, the method does not: 405.
    MethodNotAllowed {
        /// Every method of that path, sorted, for the `Allow` header (RFC 9110, section 10.2.1).
        allow: HeaderValue,
    },
    /// OPTIONS on a path that exists and has no OPTIONS route: 204.
    Options {
        /// Every method of that path, sorted, for the `Allow` header.
        allow: HeaderValue,
    },
}

/// The parameters of a path by name, in the order of the path, percent-decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    names: Arc<[Box<str>]>,
    values: Vec<String>,
}

impl Params {
    /// The value of one parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.names.iter().zip(&self.values).map(|(name, value)| (&**name, value.as_str()))
    }

    /// How many parameters the path has.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the path has none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// Why a route cannot be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// The path is not a pattern.
    Syntax {
        /// The path as it was given.
        path: String,
        /// What is wrong with it and what to write instead.
        reason: String,
    },
    /// The method has a route of the same shape already; parameter names do not make a difference.
    Duplicate {
        /// The method of both.
        method: Method,
        /// The path as it was given.
        path: String,
        /// The path of the route that is there.
        existing: String,
    },
    /// A path can match this route and another one, and neither is more specific.
    Conflict {
        /// The method of both.
        method: Method,
        /// The path as it was given.
        path: String,
        /// The other route, with its parameters in braces.
        with: String,
    },
}

impl RouteError {
    fn syntax(path: &str, reason: impl Into<String>) -> Self {
        Self::Syntax { path: path.to_owned(), reason: reason.into() }
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { path, reason } => write!(formatter, "the path {path:?} is not valid: {reason}"),
            Self::Duplicate { method, path, existing } if path == existing => {
                write!(formatter, "the route {method} {path} exists already")
            }
            Self::Duplicate { method, path, existing } => write!(
                formatter,
                "the route {method} {path} exists already as {existing}, which matches the same paths"
            ),
            Self::Conflict { method, path, with } => write!(
                formatter,
                "the route {method} {path} conflicts with {with}: one path could match both, \
                 and neither is more specific"
            ),
        }
    }
}

impl std::error::Error for RouteError {}

/// A path as the routes know it.
#[derive(Default)]
struct Pattern {
    /// In the syntax of matchit, literal braces doubled.
    matchit: String,
    /// The same without names, the key of duplicates.
    shape: String,
    names: Vec<Box<str>>,
    precedence: Vec<Precedence>,
}

/// One segment of a pattern.
enum Segment<'a> {
    Static(&'a str),
    Parameter { before: &'a str, name: &'a str, after: &'a str },
    Tail { name: &'a str },
}

impl Pattern {
    fn parse(path: &str) -> Result<Self, RouteError> {
        let fail = |reason: &str| RouteError::syntax(path, reason);
        let Some(rest) = path.strip_prefix('/') else {
            return Err(fail("it must start with \"/\""));
        };
        if path.contains(['?', '#']) {
            return Err(fail("a route is a path alone, without a query or a fragment"));
        }
        let mut pattern = Self::default();
        let mut segments = rest.split('/').peekable();
        while let Some(text) = segments.next() {
            let segment = Segment::parse(text).map_err(fail)?;
            if matches!(segment, Segment::Tail { .. }) && segments.peek().is_some() {
                return Err(fail("a tail (*name) must be the last segment"));
            }
            pattern.push(segment).map_err(fail)?;
        }
        Ok(pattern)
    }

    fn push(&mut self, segment: Segment<'_>) -> Result<(), &'static str> {
        self.push_literal("/")?;
        match segment {
            Segment::Static(text) => {
                self.precedence.push(Precedence::Static);
                self.push_literal(text)
            }
            Segment::Parameter { before, name, after } => {
                let is_whole = before.is_empty() && after.is_empty();
                self.precedence.push(if is_whole { Precedence::Parameter } else { Precedence::PartlyStatic });
                self.push_literal(before)?;
                self.push_name("", name)?;
                self.push_literal(after)
            }
            Segment::Tail { name } => {
                self.precedence.push(Precedence::Tail);
                self.push_name("*", name)
            }
        }
    }

    fn push_literal(&mut self, text: &str) -> Result<(), &'static str> {
        let text = normalize(text).ok_or("its escapes (%XX) must be UTF-8")?;
        let escaped = text.replace('{', "{{").replace('}', "}}");
        self.matchit.push_str(&escaped);
        self.shape.push_str(&escaped);
        Ok(())
    }

    fn push_name(&mut self, star: &str, name: &str) -> Result<(), &'static str> {
        if self.names.iter().any(|known| **known == *name) {
            return Err("a parameter's name may appear once only");
        }
        self.names.push(name.into());
        self.matchit.push_str(&format!("{{{star}{name}}}"));
        self.shape.push_str(&format!("{{{star}}}"));
        Ok(())
    }
}

impl<'a> Segment<'a> {
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        if let Some(name) = text.strip_prefix(':') {
            return Ok(Self::Parameter { before: "", name: check_name(name)?, after: "" });
        }
        if let Some(name) = text.strip_prefix('*') {
            return Ok(Self::Tail { name: check_name(name)? });
        }
        let Some((before, rest)) = text.split_once('{') else {
            return match text.contains('}') {
                true => Err("it has a \"}\" without a \"{\""),
                false => Ok(Self::Static(text)),
            };
        };
        let (name, after) = rest.split_once('}').ok_or("it has a \"{\" without a \"}\"")?;
        if before.contains('}') || after.contains(['{', '}']) {
            return Err("a segment takes one parameter ({name}) only");
        }
        match name.strip_prefix('*') {
            Some(name) if before.is_empty() && after.is_empty() => Ok(Self::Tail { name: check_name(name)? }),
            Some(_) => Err("a tail ({*name}) must be a whole segment"),
            None => Ok(Self::Parameter { before, name: check_name(name)?, after }),
        }
    }
}

fn check_name(name: &str) -> Result<&str, &'static str> {
    let is_name = |character: char| character.is_alphanumeric() || character == '_' || character == '-';
    match name {
        "" => Err("a parameter needs a name, as in \":id\" or \"*path\""),
        name if name.chars().all(is_name) => Ok(name),
        _ => Err("a parameter's name is letters, digits, \"_\" and \"-\" only; \
                  write \"{name}\" for a parameter with text around it"),
    }
}

/// Resolves every escape but those of "/" and "%", and escapes a bare "%", so that segments stay apart and a later
/// [`decode`] of a parameter decodes nothing twice. None: the path is not UTF-8 then.
fn normalize(path: &str) -> Option<Cow<'_, str>> {
    let Some(start) = memchr(b'%', path.as_bytes()) else {
        return Some(Cow::Borrowed(path));
    };
    let (clean, mut rest) = path.as_bytes().split_at(start);
    let mut normalized = clean.to_vec();
    while let [first, tail @ ..] = rest {
        let escaped = if *first == b'%' { escaped_byte(tail) } else { None };
        match escaped.unwrap_or(*first) {
            b'%' => normalized.extend_from_slice(b"%25"),
            b'/' if escaped.is_some() => normalized.extend_from_slice(b"%2F"),
            byte => normalized.push(byte),
        }
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(normalized).ok().map(Cow::Owned)
}

/// The byte that two hexadecimal digits behind a "%" stand for.
fn escaped_byte(digits: &[u8]) -> Option<u8> {
    let digit = |index: usize| digits.get(index).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn decode(value: &str) -> Option<String> {
    percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned)
}
