//! The router against its rules, and against a router that is too simple to be wrong.

use http::Method;
use hypern_core::router::{Lookup, Params, RouteError, Router};
use proptest::prelude::*;

/// GET routes that lead to their own paths.
fn routes(paths: &[&'static str]) -> Router<&'static str> {
    let mut router = Router::new();
    for path in paths {
        router.insert(Method::GET, path, *path).expect("a valid route");
    }
    router
}

fn found(router: &Router<&'static str>, path: &str) -> Option<(&'static str, Params)> {
    match router.find(&Method::GET, path) {
        Lookup::Found { value, params } => Some((value, params)),
        _ => None,
    }
}

fn value(router: &Router<&'static str>, path: &str) -> Option<&'static str> {
    found(router, path).map(|(value, _)| value)
}

fn param(router: &Router<&'static str>, path: &str, name: &str) -> Option<String> {
    found(router, path).and_then(|(_, params)| params.get(name).map(str::to_owned))
}

fn refusal(paths: &[&str]) -> String {
    let mut router = Router::new();
    let error: Result<(), RouteError> =
        paths.iter().try_for_each(|path| router.insert(Method::GET, path, ()));
    error.expect_err("a refusal").to_string()
}

#[test]
fn both_syntaxes_name_parameters() {
    for path in ["/users/:id/posts/:post", "/users/{id}/posts/{post}"] {
        let mut router = Router::new();
        router.insert(Method::GET, path, 1).unwrap();
        let Lookup::Found { value, params } = router.find(&Method::GET, "/users/7/posts/x") else {
            panic!("{path} is not found")
        };
        assert_eq!(*value, 1);
        assert_eq!(params.iter().collect::<Vec<_>>(), [("id", "7"), ("post", "x")]);
        assert_eq!((params.get("post"), params.get("other")), (Some("x"), None));
        assert_eq!((params.len(), params.is_empty()), (2, false));
    }
}

#[test]
fn a_parameter_is_one_segment_that_is_not_empty() {
    let router = routes(&["/users/:id"]);
    assert_eq!(value(&router, "/users/"), None);
    assert_eq!(value(&router, "/users/7/"), None);
    assert_eq!(value(&router, "/users/7/8"), None);
}

#[test]
fn a_tail_is_one_or_more_segments() {
    for path in ["/files/*path", "/files/{*path}"] {
        let router = routes(&[path]);
        assert_eq!(param(&router, "/files/a", "path").as_deref(), Some("a"));
        assert_eq!(param(&router, "/files/a/b/", "path").as_deref(), Some("a/b/"));
        assert_eq!(value(&router, "/files/"), None);
        assert_eq!(value(&router, "/files"), None);
    }
}

#[test]
fn static_beats_parameter_beats_tail_from_the_left() {
    let router = routes(&["/*rest", "/:user", "/:user/feed", "/assets/*path", "/me", "/img-{id}.png"]);
    assert_eq!(value(&router, "/me"), Some("/me"));
    assert_eq!(value(&router, "/you"), Some("/:user"));
    assert_eq!(value(&router, "/you/feed"), Some("/:user/feed"));
    assert_eq!(value(&router, "/you/other"), Some("/*rest"));
    assert_eq!(value(&router, "/assets/feed"), Some("/assets/*path"));
    assert_eq!(param(&router, "/img-7.png", "id").as_deref(), Some("7"));
    assert_eq!(value(&router, "/img-7.jpg"), Some("/:user"));
}

#[test]
fn a_trailing_slash_is_another_path() {
    let router = routes(&["/a", "/b/"]);
    assert_eq!((value(&router, "/a"), value(&router, "/a/")), (Some("/a"), None));
    assert_eq!((value(&router, "/b"), value(&router, "/b/")), (None, Some("/b/")));
}

#[test]
fn names_may_differ_between_methods() {
    let mut router = Router::new();
    router.insert(Method::GET, "/a/:id", 1).unwrap();
    router.insert(Method::POST, "/a/:name", 2).unwrap();
    for (method, name) in [(Method::GET, "id"), (Method::POST, "name")] {
        let Lookup::Found { params, .. } = router.find(&method, "/a/x") else {
            panic!("{method} is not found")
        };
        assert_eq!(params.iter().collect::<Vec<_>>(), [(name, "x")]);
    }
}

#[test]
fn a_more_specific_path_of_another_method_hides_nothing() {
    let mut router = Router::new();
    router.insert(Method::GET, "/users/:id", 1).unwrap();
    router.insert(Method::POST, "/users/me", 2).unwrap();
    assert!(matches!(router.find(&Method::GET, "/users/me"), Lookup::Found { value: 1, .. }));
    let Lookup::MethodNotAllowed { allow } = router.find(&Method::PUT, "/users/me") else {
        panic!("not a 405")
    };
    assert_eq!(allow, "GET, HEAD, OPTIONS, POST");
}

#[test]
fn head_takes_the_route_of_get_unless_it_has_its_own() {
    let mut router = Router::new();
    router.insert(Method::GET, "/a", "get").unwrap();
    router.insert(Method::GET, "/b", "get").unwrap();
    router.insert(Method::HEAD, "/b", "head").unwrap();
    router.insert(Method::POST, "/c", "post").unwrap();
    assert!(matches!(router.find(&Method::HEAD, "/a"), Lookup::Found { value: &"get", .. }));
    assert!(matches!(router.find(&Method::HEAD, "/b"), Lookup::Found { value: &"head", .. }));
    assert!(matches!(router.find(&Method::HEAD, "/c"), Lookup::MethodNotAllowed { .. }));
}

#[test]
fn a_miss_says_what_is_allowed() {
    let mut router = Router::new();
    for method in [Method::PUT, Method::DELETE] {
        router.insert(method, "/a/:id", ()).unwrap();
    }
    let Lookup::MethodNotAllowed { allow } = router.find(&Method::GET, "/a/1") else { panic!("not a 405") };
    assert_eq!(allow, "DELETE, OPTIONS, PUT");
    let Lookup::Options { allow } = router.find(&Method::OPTIONS, "/a/1") else { panic!("not a 204") };
    assert_eq!(allow, "DELETE, OPTIONS, PUT");
    for method in [Method::GET, Method::OPTIONS] {
        assert!(matches!(router.find(&method, "/b"), Lookup::NotFound));
    }
}

#[test]
fn an_options_route_answers_for_itself() {
    let mut router = Router::new();
    router.insert(Method::OPTIONS, "/a", ()).unwrap();
    assert!(matches!(router.find(&Method::OPTIONS, "/a"), Lookup::Found { .. }));
    let Lookup::MethodNotAllowed { allow } = router.find(&Method::GET, "/a") else { panic!("not a 405") };
    assert_eq!(allow, "OPTIONS");
}

#[test]
fn parameters_are_decoded_once() {
    let router = routes(&["/a/:p", "/t/*p"]);
    for (escaped, plain) in [
        ("caf%C3%A9", "café"),
        ("caf%c3%a9", "café"),
        ("a%2Fb", "a/b"),
        ("a%2fb%20c", "a/b c"),
        ("a+b", "a+b"),
        ("%2541", "%41"),
        ("%%32F", "%2F"),
        ("%252F", "%2F"),
        ("100%", "100%"),
        ("%zz%2", "%zz%2"),
        ("%7Bid%7D", "{id}"),
        ("é", "é"),
    ] {
        assert_eq!(param(&router, &format!("/a/{escaped}"), "p").as_deref(), Some(plain), "{escaped}");
        assert_eq!(param(&router, &format!("/t/x/{escaped}"), "p"), Some(format!("x/{plain}")), "{escaped}");
    }
}

#[test]
fn escapes_that_are_not_utf8_are_not_found() {
    let router = routes(&["/a/:p", "/*rest"]);
    assert!(matches!(router.find(&Method::GET, "/a/%FF"), Lookup::NotFound));
    assert!(matches!(router.find(&Method::PUT, "/a/%C3"), Lookup::NotFound));
}

#[test]
fn equivalent_escapes_are_one_path() {
    let router = routes(&["/café", "/a%2Fb", "/%3Aliteral", "/%7Bid%7D", "/50%"]);
    assert_eq!(value(&router, "/caf%C3%A9"), Some("/café"));
    assert_eq!(value(&router, "/%63afé"), Some("/café"));
    assert_eq!(value(&router, "/a%2fb"), Some("/a%2Fb"));
    assert_eq!(value(&router, "/a/b"), None);
    assert_eq!(value(&router, "/:literal"), Some("/%3Aliteral"));
    assert_eq!(value(&router, "/{id}"), Some("/%7Bid%7D"));
    assert_eq!(value(&router, "/50%25"), Some("/50%"));
}

#[test]
fn refusals_say_which_path_and_why() {
    assert_eq!(refusal(&["a"]), "the path \"a\" is not valid: it must start with \"/\"");
    assert_eq!(refusal(&[""]), "the path \"\" is not valid: it must start with \"/\"");
    assert_eq!(refusal(&["/a", "/a"]), "the route GET /a exists already");
    assert_eq!(
        refusal(&["/a/:id", "/a/{name}"]),
        "the route GET /a/{name} exists already as /a/:id, which matches the same paths"
    );
    assert_eq!(
        refusal(&["/a/x{id}", "/a/{id}x"]),
        "the route GET /a/{id}x conflicts with /a/x{id}: one path could match both, and neither is more specific"
    );
    for (path, reason) in [
        ("/a?b", "without a query"),
        ("/:", "needs a name"),
        ("/*", "needs a name"),
        ("/{}", "needs a name"),
        ("/{id:int}", "letters, digits"),
        ("/:id.json", "write \"{name}\""),
        ("/{id", "without a \"}\""),
        ("/id}", "without a \"{\""),
        ("/{a}{b}", "one parameter"),
        ("/*path/b", "last segment"),
        ("/a{*path}", "whole segment"),
        ("/:id/:id", "once only"),
        ("/%FF", "UTF-8"),
    ] {
        let text = refusal(&[path]);
        assert!(text.contains(&format!("{path:?}")) && text.contains(reason), "{text}");
    }
}

/// The rank of a pattern for a path, if it matches: 0 a static segment, 1 a parameter, 2 a tail.
fn rank(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let mut segments: Vec<&str> = path.split('/').skip(1).collect();
    let mut rank = Vec::new();
    for part in pattern.split('/').skip(1) {
        if part.starts_with('*') {
            rank.push(2);
            return (!segments.join("/").is_empty()).then_some(rank);
        }
        if segments.is_empty() {
            return None;
        }
        let segment = segments.remove(0);
        match part.starts_with(':') {
            true if !segment.is_empty() => rank.push(1),
            false if part == segment => rank.push(0),
            _ => return None,
        }
    }
    segments.is_empty().then_some(rank)
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("ab"), Just(":p"), Just(":p"), Just("")];
    let pattern =
        (proptest::collection::vec(segment, 1..4), any::<bool>()).prop_map(|(segments, has_tail)| {
            let mut path = String::new();
            for (index, segment) in segments.iter().enumerate() {
                path.push('/');
                path.push_str(&segment.replace(":p", &format!(":p{index}")));
            }
            if has_tail { path + "/*tail" } else { path }
        });
    proptest::collection::vec(pattern, 1..10)
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("ab"), Just("c"), Just("")], 1..5)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #[test]
    fn it_agrees_with_the_simple_router(mut patterns in patterns(), path in path()) {
        let mut router = Router::new();
        patterns.retain(|pattern| router.insert(Method::GET, pattern, pattern.clone()).is_ok());
        let wanted = patterns.iter().filter_map(|pattern| Some((rank(pattern, &path)?, pattern))).min();
        match (router.find(&Method::GET, &path), wanted) {
            (Lookup::Found { value, .. }, Some((_, pattern))) => prop_assert_eq!(value, pattern),
            (Lookup::NotFound, None) => {}
            (found, wanted) => prop_assert!(false, "found {found:?}, wanted {wanted:?}"),
        }
    }

    #[test]
    fn any_text_survives_as_a_parameter(text in "\\PC{1,20}") {
        let router = routes(&["/a/:p"]);
        let escaped = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
        prop_assert_eq!(param(&router, &format!("/a/{escaped}"), "p"), Some(text));
    }

    #[test]
    fn no_path_and_no_pattern_panics(pattern in "/?[a-c/:{}*%0-9F]{0,12}", path in "/[a-c/:{}*%0-9F]{0,12}") {
        let mut router = Router::new();
        if router.insert(Method::GET, &pattern, ()).is_ok() {
            let _ = router.find(&Method::GET, &path);
        }
    }
}
