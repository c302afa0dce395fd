# SPDX-License-Identifier: Apache-2.0
"""The mutants of how a request's head is read."""

from mutant import Mutant

HTTP = [
    Mutant("http_two_framings", "src/http",
           '''    if (request->has_length) {
        request->problem = "Both Content-Length and Transfer-Encoding are given.";
        return HTTP_BAD;
    }
''', "",
           "a proxy before alloyd and alloyd see two requests where there is one", ("http_parse",)),
    Mutant("http_lengths_differ", "src/http",
           "    if (request->has_length && request->content_length != first) {", "    if (false) {",
           "of two lengths the last counts: request smuggling", ("http_parse",)),
    Mutant("http_host_twice", "src/http",
           "if (head->host_count > 1 ||", "if (",
           "two Hosts pass", ("http_parse",)),
    Mutant("head_memo_behind", "src/http",
           "slice->data = to + at + (at > length_at ? shift : 0);", "slice->data = to + at;",
           "of a known head with a longer number the key is read beside its place", ("head_memo",)),
    Mutant("head_memo_rest", "src/http",
           "        !head_same(buf + at + digits, slot->head + behind, slot->request.head_len - behind))",
           "        false)",
           "what stands behind a known head's length may be anything", ("head_memo",)),
    Mutant("head_memo_two_lengths", "src/http",
           "request->length_text = request->has_length ? (struct slice){0} : value;",
           "request->length_text = value;",
           "of two lengths the last counts in a head that is known: request smuggling", ("head_memo",)),
    Mutant("http_headers_max", "src/http",
           "if (head->header_count > HEADER_COUNT_MAX) {", "if (false) {",
           "a request may have any number of headers", ("http_parse",)),
    Mutant("http_expect_1_0", "src/http",
           "        request->expect_continue = false;", "        request->expect_continue = true;",
           "an HTTP/1.0 client gets a 100 that it does not know", ("http_parse",)),
]
