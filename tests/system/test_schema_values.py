# SPDX-License-Identifier: Apache-2.0
"""The check of a column's type beside the real engine: thousands of values of every type go into tables, are read
back, and nothing that ClickHouse takes as it is may be told by the check. What ClickHouse refuses or changes and the
check lets pass is listed (pytest -s), and is little."""

import datetime
import decimal
import ipaddress
import json
import os
import random
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pytest

import harness

SEED = int(os.environ.get("SCHEMA_SEED", "1"))
COUNT = int(os.environ.get("SCHEMA_VALUES", "300"))  # random ones of a type, beside the edges
SETTINGS = {"date_time_input_format": "best_effort", "input_format_parallel_parsing": "0", "async_insert": "0",
            "wait_end_of_query": "1", "max_insert_block_size": "1000000", "allow_experimental_json_type": "1",
            "enable_time_time64_type": "1", "allow_suspicious_low_cardinality_types": "1", "flatten_nested": "0",
            "allow_suspicious_variant_types": "1"}
EPOCH = datetime.datetime(1970, 1, 1)

ANY = ["null", "true", "false", "0", "1", "-1", "-0", "1.5", "1.0", "1e3", "1E2", "0.1e1", '""', '"x"', '"1"', '"-1"',
       '"1.5"', '"null"', '"true"', '"false"', '"+1"', '" 1"', '"1 "', '"1x"', '"t"', '"T"', '"\\u0031"', "[]", "[1]", "{}",
       '{"a":1}', '["a"]', "[null]", "[[1]]", '"[]"', '"{}"', '"-"', '"+"', '"."', '"inf"', '"nan"', '"NaN"', '"-inf"',
       '"1e3"', '"0x10"', '"ten"', '"free"', '"é"', '"12px"', '"1_000"', '"1,5"', '"null1"', "99999999999999999999999"]


def powers(r):
    n = 2 ** r.choice([7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256]) + r.randint(-2, 2)
    return r.choice(["", "-"]) + str(n)


def integer(r):
    text = powers(r) if r.random() < 0.5 else str(r.randint(-10 ** r.randint(1, 40), 10 ** r.randint(1, 40)))
    return text if r.random() < 0.7 else '"' + r.choice(["", "", "00", "+"]) + text.lstrip("-") + r.choice(["", "", "a", ".0"]) + '"'


def real(r):
    text = f"{r.randint(-10 ** r.randint(1, 20), 10 ** r.randint(1, 20))}"
    if r.random() < 0.7:
        text += "." + "".join(r.choice("0123456789") for _ in range(r.randint(1, 12))) + "0" * r.randint(0, 3)
    if r.random() < 0.4:
        text += r.choice("eE") + r.choice(["", "+", "-"]) + str(r.randint(0, r.choice([5, 40, 400])))
    return text if r.random() < 0.7 else '"' + text + r.choice(["", "", " kg", "e", "x", "."]) + '"'


def stamp(r):
    year = r.choice([0, 1, 1700, 1899, 1900, 1950, 1968, 1969, 1970, 1999, 2000, 2026, 2038, 2100, 2105, 2107, 2108, 2149, 2150, 2299,
                     2300, 9999])
    text = f"{year:04}{r.choice('--- /.')}{r.randint(0, 14):02}-{r.randint(0, 33):02}"
    if r.random() < 0.2:
        text = f"{year:04}-{r.randint(1, 13)}-{r.randint(1, 32)}"
    if r.random() < 0.1:
        text = f"{year:04}{r.randint(1, 13):02}{r.randint(1, 32):02}"
    if r.random() < 0.6:
        text += f"{r.choice('TTT t')}{r.randint(0, 25):02}:{r.randint(0, 61):02}"
        if r.random() < 0.8:
            text += f":{r.randint(0, 61):02}"
            if r.random() < 0.5:
                text += "." + "".join(r.choice("0123456789") for _ in range(r.randint(1, 10)))
        text += r.choice(["", "Z", "+02:00", "-0800", " UTC", "+14:00", " PST", " Europe/Rome", "junk"])
    if r.random() < 0.1:
        text = r.choice(["Sat, 31 Jan 2026 10:00:00 GMT", "31 Jan 2026", "Jan 31 2026", "31.01.2026", "31/01/2026 10:00", "10:00",
                         "yesterday", "now", "2026", "202601", "tomorrow 10", "noon", "10 PM", "31-Jan-2026 10:00:00",
                         "2026-01-31 10:00:00 PM", "January 31, 2026", "Monday"])
    return '"' + text + '"'


def seconds(r):
    return r.choice(["", "", "", "-"]) + str(r.choice([r.randint(0, 10 ** r.randint(1, 20)), 1769860800 * 10 ** r.randint(0, 9),
                                                      4294967295 + r.randint(-1, 1), 65535 + r.randint(-1, 1)]))


LIMITS = ["0000-01-01", "0001-01-01", "1677-09-21 00:12:44", "1900-01-01", "1970-01-01", "2106-02-07 06:28:16", "2149-06-07", "2262-04-11 23:47:17",
          "2300-01-01", "4892-10-07 21:52:49", "9999-12-31 23:59:59"]


def limit(r):
    """A limit of a type, a second or a day off, in one of the ways to write it."""
    at = r.choice(LIMITS).replace("0000", "0001")
    step = datetime.timedelta(seconds=r.choice([0, 0, 1, -1, 86400, -86400, 2 * 86400, -57600, 43200, 3600, -3600]))
    try:
        at = datetime.datetime.fromisoformat(at) + step
    except OverflowError:
        at = datetime.datetime.max
    day = f"{at.year:04}" + r.choice(["-{:02}-{:02}", "-{:02}-{:02}", "{:02}{:02}", "/{:02}/{:02}", "-{}-{}"]).format(at.month, at.day)
    if r.random() < 0.3:
        return f'"{day}"'
    zone = r.choice(["", "", "Z", "+00:00", "+01:00", "-01:00", "+14:00", "-12:00", "+00:01", " GMT"])
    return f'"{day}{r.choice("T ")}{at:%H:%M:%S}{r.choice(["", "", ".5", ".999999999"])}{zone}"'


def limit_number(r):
    days = r.choice([0, 65535, 120529, -25567, 2932896, -719528, 4294967295, 253402300799, -62167219200, 3599999, -3599999, 2 ** 31, 2 ** 63])
    text = str((days + r.randint(-2, 2)) * r.choice([1, 1, 1, 10 ** r.randint(0, 9), 86400]) + r.randint(-1, 1))
    return text if r.random() < 0.8 else f'"{text}"'


def wrong_unit(r):
    """Some time of this century in any unit, or as digits of a date."""
    at = r.randint(946684800, 4102444800)
    date = EPOCH + datetime.timedelta(seconds=at)
    text = r.choice([str(at * 10 ** r.randint(0, 9)), str(at // 86400), f"{date:%Y%m%d}", f"{date:%Y%m%d%H%M%S}", f"{date:%Y}", f"{at}.5", f"{at}.0",
                     f"{at}e3", f"-{at}"])
    return text if r.random() < 0.7 else f'"{text}"'


def odd_time(r):
    date = EPOCH + datetime.timedelta(seconds=r.randint(0, 4102444800))
    form = r.choice(["%d-%b-%Y %H:%M:%S", "%d %b %Y", "%b %d %Y %H:%M", "%A, %d %B %Y", "%a, %d %b %Y %H:%M:%S GMT", "%d.%m.%Y %H:%M", "%d/%m/%y",
                     "%m/%d/%Y", "%Y_%m_%d", "%Y*%m*%d", "%Yx%mx%d", "%Y-%m", "%Y%m", "%H:%M:%S", "%I:%M %p %Y-%m-%d", "%Y-%m-%d %I:%M:%S %p",
                     "%Y-%m-%d, %H:%M:%S", "%Y-%m-%d,%H:%M", "%Y-%m-%dT%H", "%Y-%m-%dT%H%M%S", "%Y%m%dT%H%M%SZ", "%Y%m%d %H%M%S", "%Y-%m-%d-%H%M%S",
                     "%Y-%j", "%G-W%V-%u", "%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%dT%H:%M:%SZZ", "%Y-%m-%d %H:%M:%S +0100", "%Y-%m-%d  %H:%M:%S",
                     "%a %b %d %H:%M:%S %Y", "%d-%m-%Y", "%d-%b-%y", "%b %d %H:%M:%S", "%s", " %Y-%m-%d", "%Y-%m-%d ", "%Y-%m-%dT%H:%M:%S.", "%Y-%m-%dt%H:%M:%Sz",
                     "%B %-d, %Y", "%-d %B, %Y", "%Y-%m-%d %H:%M:%S.%f", "%Y\\/%m\\/%d", "%Y-%m-%d\\n", "%y-%m-%d", "%Y-%m-%d %H.%M.%S", "%Y%m%d%H"])
    return mutated(lambda _: date.strftime(form))(r) if r.random() < 0.3 and "\\" not in form else f'"{date.strftime(form)}"'


def clock(r):
    text = r.choice(["", "", "", "-", "+"]) + str(r.choice([r.randint(0, 30), r.randint(990, 1010), r.randint(0, 10 ** 8)]))
    for _ in range(r.choice([0, 1, 2, 2, 2, 3])):
        text += ":" + r.choice(["{:02}", "{:02}", "{}"]).format(r.randint(0, 61))
    return f'"{text}{r.choice(["", "", "", ".5", ".123456789", "Z", " PM", " "])}"'


def odd_number(r):
    """How people and programs write numbers."""
    whole = r.choice([str(r.randint(0, 10 ** r.randint(1, 12))), "", "0", "00", "007", "1", "12"])
    text = r.choice(["", "", "-", "+", "--", "+-", " ", "\\u002d", "$", "#"]) + whole + r.choice(["", "", ".", ".5", ",5", ".50", "..5", ".5.", "_000", " 000"])
    text += r.choice(["", "", "e", "E", "e5", "E5", "e+5", "e-5", "e+", "e-", "e.5", "ee5", "e5.", "e05", "e5e5", "f", "d", "L", "n", "%", " ", "\\n", "kg"])
    if r.random() < 0.25:
        text = r.choice(["", "-", "+"]) + r.choice(["inf", "Inf", "INF", "infinity", "Infinity", "INFINITY", "nan", "NaN", "NAN", "nan(1)", "nan()", "nan(x",
                                                    "nano", "infi", "in", "i", "n", "null", "NULL", "none", "None", "nil", "N/A", "NA", "true", "false",
                                                    "TRUE", "yes", "no", "undefined", "-", ".", "0x1F", "0b1", "1/2", "½", "１", "∞", "", "NaNx", "\\u0031"])
    return f'"{text}"'


def near_infinity(r):
    text = r.choice(["3.4028234", "3.4028235", "3.4028236", "3.40282357", "3.41", "3.39", "17976931348623157", "1.7976931348623158", "1.7976931348623159",
                     "1.8", "0.00034028236", "9", "0.1"]) + r.choice("eE") + r.choice(["", "+"]) + str(r.choice([38, 39, 37, 308, 309, 292, 42, 307]))
    return r.choice(["{}", "-{}", '"{}"']).format(text)


def odd_uuid(r):
    text = a_uuid(r)
    return '"' + r.choice(["{%s}", "urn:uuid:%s", " %s", "%s ", "%s\\n", "%s-", "-%s", "0x%s", "%s0"]) % text + '"' if r.random() < 0.5 else \
        '"' + r.choice([text[:-1], text.replace("-", "_"), text.replace("-", " "), text[:8] + text[9:], text + text, "0", "00000000-0000-0000-0000-000000000000"]) + '"'


def odd_address(r):
    octets = [r.choice([str(r.randint(0, 255)), str(r.randint(0, 300)), f"0{r.randint(0, 99)}", "00", "0000", "0x1", "", "1e1", "+1", "00001"]) if r.random() < 0.2
              else str(r.randint(0, 255)) for _ in range(r.choice([4, 4, 4, 4, 3, 5, 1]))]
    four = ".".join(octets)
    groups = [r.choice(["0", "00", f"{r.getrandbits(16):x}", f"{r.getrandbits(16):04X}", "12345", "g", ""]) if r.random() < 0.2 else f"{r.getrandbits(16):x}"
              for _ in range(r.randint(1, 9))]
    six = ":".join(groups)
    if r.random() < 0.5:
        at = r.randrange(len(groups) + 1)
        six = ":".join(groups[:at]) + "::" + ":".join(groups[at:])
    text = r.choice([four, six, f"::ffff:{four}", f"::{four}", f"{six}:{four}", f"64:ff9b::{four}", f"{six}.1.2.3"])
    return '"' + r.choice(["%s"] * 8 + ["%s/24", "[%s]", "%s:80", "%s%%eth0", " %s", "%s ", "%s.", "%s:", ":%s", "::%s"]) % text + '"'


def odd_enum(r):
    name = r.choice(list(ENUM))
    return '"' + r.choice([name.upper(), f" {name}", f"{name} ", f"{name}\\u0000", str(ENUM[name]), f"+{ENUM[name]}", f"0{ENUM[name]}", f"{ENUM[name]}.0", f"{ENUM[name]}e0",
                           f" {ENUM[name]}", "e\\u0301", name.replace("a", "\\u0061")]) + '"'


def mutated(base):
    def make(r):
        text = list(base(r))
        for _ in range(r.choice([0, 0, 1, 1, 2])):
            at = r.randrange(len(text) + 1)
            r.choice([lambda: text.insert(at, r.choice("0123456789abcdefgxF:.-% ")), lambda: text.pop(min(at, len(text) - 1)),
                      lambda: text.__setitem__(min(at, len(text) - 1), r.choice("0123456789abcdefgxF:.-% "))])()
            text = text or ["0"]
        return '"' + "".join(text) + '"'
    return make


def a_uuid(r):
    text = str(uuid.UUID(int=r.getrandbits(128)))
    return r.choice([text, text.upper(), text.replace("-", "")])


def an_ipv4(r):
    return ".".join(str(r.choice([r.randint(0, 255), r.randint(0, 300), "007"])) for _ in range(r.choice([4, 4, 4, 3, 5])))


def an_ipv6(r):
    address = ipaddress.IPv6Address(r.getrandbits(128) & r.choice([2 ** 128 - 1, 0xFFFF << 112 | 0xFF, 2 ** 64 - 1]))
    return r.choice([str(address), address.exploded, f"::ffff:{an_ipv4(r)}", an_ipv4(r)])


def word(r):
    return '"' + "".join(r.choice(["a", "b", "é", "x y", "\\n", "\\u00e9", "7", "", "\\\\", "\\\"", "-", "1"]) for _ in range(r.randint(0, 6))) + '"'


def of(*makers):
    return lambda r: r.choice(makers)(r)


def array(maker):
    return lambda r: "[" + r.choice([",", " , "]).join(maker(r) for _ in range(r.randint(0, 3))) + "]"


def mapping(keys, values):
    def make(r):
        names = list(dict.fromkeys(keys(r) for _ in range(r.randint(0, 3))))
        return "{" + ",".join(f"{name}:{values(r)}" for name in names) + "}"
    return make


def quoted_int(r):
    return '"' + integer(r).strip('"') + '"'


def small(r):
    return r.choice(["1", "2", "null", '"5"', "300", "-129", "1.5", "true", '"x"', "{}", "[]"])


def fields(r):
    names = r.sample(["a", "b", "c", "x y"], r.randint(0, 4))
    return "{" + ",".join(f'"{name}":{r.choice([small, word])(r)}' for name in names) + "}"


def json_object(r, depth=0):
    names = [r.choice(["a", "b", "c", "a.b", "", "a", "é"]) for _ in range(r.randint(0, 3))]
    inner = (lambda r: json_object(r, depth + 1)) if depth < 3 else small
    return "{" + ",".join(f'"{name}":{r.choice([small, word, real, integer, TIME, odd_number, inner, array(small), array(inner)])(r)}' for name in names) + "}"


ENUM = {"a": 1, "b": -2, "7": 3, "x y": 5, "é": 100, "": 0}
ENUM_SQL = ",".join(f"'{name}'={value}" for name, value in ENUM.items())
TYPES = {}
for _bits in (8, 16, 32, 64, 128, 256):
    TYPES[f"Int{_bits}"] = TYPES[f"UInt{_bits}"] = of(integer, integer, real, odd_number)
for _float in ("Float32", "Float64", "BFloat16"):
    TYPES[_float] = of(real, real, integer, odd_number, near_infinity)
for _decimal in ("Decimal(9, 2)", "Decimal(18, 4)", "Decimal(38, 10)", "Decimal(76, 5)", "Decimal(9, 0)", "Decimal(9, 9)"):
    TYPES[_decimal] = of(real, real, integer, odd_number)
TIME = of(stamp, seconds, limit, limit, limit_number, wrong_unit, odd_time)
for _time in ["Date", "Date32", "DateTime", "DateTime('Europe/Berlin')", "DateTime('UTC')", "LowCardinality(Date)", "LowCardinality(Nullable(DateTime))",
              "Nullable(DateTime64(3))", "DateTime64(6, 'UTC')", "DateTime64(9, 'UTC')"] + [f"DateTime64({_n})" for _n in range(10)]:
    TYPES[_time] = TIME
for _time in ["Time", "Time64(0)", "Time64(3)", "Time64(9)", "Nullable(Time)"]:
    TYPES[_time] = of(clock, clock, clock, limit_number, seconds, stamp)
TYPES |= {
    "Bool": integer, "String": word, "FixedString(4)": word, "LowCardinality(String)": word, "Nullable(String)": word,
    "UUID": of(mutated(a_uuid), odd_uuid), "IPv4": of(mutated(an_ipv4), odd_address), "IPv6": of(mutated(an_ipv6), odd_address, odd_address),
    f"Enum8({ENUM_SQL})": of(word, integer, odd_enum, lambda r: json.dumps(r.choice(list(ENUM))), lambda r: str(r.randint(-5, 8))),
    f"Enum16({ENUM_SQL})": of(word, integer, odd_enum, lambda r: json.dumps(r.choice(list(ENUM))), lambda r: json.dumps(str(r.randint(-5, 8)))),
    "Nullable(Int8)": integer, "LowCardinality(Nullable(String))": word, 
    "Array(Int8)": array(of(small, integer)), "Array(Nullable(Int16))": array(small), "Array(String)": array(of(small, word)),
    "Array(Array(UInt8))": array(array(small)), "Array(LowCardinality(String))": array(of(small, word)),
    "Map(String, Int8)": mapping(word, small), "Map(UInt16, String)": mapping(quoted_int, small),
    "Map(LowCardinality(String), String)": mapping(word, small), "Map(UUID, UInt8)": mapping(mutated(a_uuid), small),
    "Map(String, Array(Nullable(Int8)))": mapping(word, array(small)), "Map(Date, UInt8)": mapping(stamp, small),
    "Tuple(Int8, String)": of(array(small), array(word)), "Tuple(a Int8, b String)": fields, "Tuple(`x y` Int8, b Nullable(Int8))": fields,
    "Tuple(a Tuple(b Int8, c Array(String)))": lambda r: '{"a":' + fields(r) + "}", "JSON": fields, "Array(Tuple(a Int8))": array(fields),
    "LowCardinality(Nullable(UInt8))": integer, "LowCardinality(Nullable(FixedString(2)))": word, "LowCardinality(Nullable(Float64))": of(real, odd_number),
    "Array(LowCardinality(Nullable(UInt8)))": array(of(small, integer)), "Array(Nullable(DateTime64(3)))": array(TIME), "Array(Date32)": array(TIME),
    "Map(LowCardinality(String), Nullable(DateTime))": mapping(word, TIME), "Map(Date32, UInt8)": mapping(limit, small),
    "Map(IPv6, String)": mapping(odd_address, small), "Map(Int8, Array(Decimal(9, 2)))": mapping(quoted_int, array(of(small, odd_number))),
    "Tuple(Time, IPv6)": lambda r: f"[{clock(r)},{odd_address(r)}]", "Tuple(a Date, b Array(Float32))": lambda r: f'{{"a":{TIME(r)},"b":{array(odd_number)(r)}}}',
    "Nested(a UInt8, b String)": array(fields), "Nested(a Nullable(Date32), b Array(UInt8))": array(lambda r: f'{{"a":{TIME(r)},"b":{array(small)(r)}}}'),
    "Variant(UInt8, Date)": of(integer, TIME, small), "Variant(Array(UInt8), Bool)": of(array(small), small, integer),
    "Variant(Int64, Float64, DateTime)": of(integer, real, odd_number, TIME), "Variant(UUID, IPv6, Decimal(9, 2))": of(odd_uuid, odd_address, odd_number, real),
    "Variant(Tuple(a UInt8), Map(String, Date))": of(fields, mapping(word, TIME)), "Variant(UInt64, String)": of(small, word, integer),
    "Array(Variant(UInt8, Date))": array(of(small, TIME)), "Map(String, Variant(Bool, UInt16))": mapping(word, of(small, integer)),
    "SimpleAggregateFunction(sum, UInt64)": of(integer, odd_number), "SimpleAggregateFunction(max, DateTime64(3))": TIME,
    "SimpleAggregateFunction(groupArrayArray, Array(Int8))": array(of(small, integer)), "SimpleAggregateFunction(anyLast, Nullable(Date32))": TIME,
    "IntervalSecond": of(integer, odd_number), "Point": array(of(real, small)), "Ring": array(array(of(real, small))), "Polygon": array(array(array(real))),
    # These are not checked, or not what is inside.
    "AggregateFunction(sum, UInt64)": of(integer, word), "Dynamic": of(small, word, real, TIME, fields, array(small)), "JSON(a UInt8, b Date)": json_object,
    "Nullable(JSON)": json_object, "Map(String, JSON)": mapping(word, json_object), "Array(Dynamic)": array(of(small, TIME)),
}
UNCHECKED = re.compile("AggregateFunction|Dynamic|.*JSON")
ALIASES = {"Point": "Tuple(Float64, Float64)", "Ring": "Array(Point)", "Polygon": "Array(Ring)"}
TOTALS = {}


def names_of(sql):
    return re.findall(r"(\w+|`[^`]*`) [A-Z]", sql)


def unwrap(sql):
    nullable = False
    while (match := re.fullmatch(r"(Nullable|LowCardinality|SimpleAggregateFunction)\((.*)\)", sql)):
        nullable = nullable or match[1] == "Nullable"
        sql = match[2] if match[1] != "SimpleAggregateFunction" else match[2].split(", ", 1)[1]
    return ALIASES.get(sql, sql), nullable


def arguments(sql):
    inside, depth, parts, from_ = sql[sql.index("(") + 1:-1], 0, [], 0
    for at, c in enumerate(inside):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append(inside[from_:at].strip())
            from_ = at + 1
    return parts + [inside[from_:].strip()]


def instant(text):
    """What a time in ISO form means, or None: another form. False: no such time."""
    match = re.fullmatch(r"(\d{4})(?:([-/])(\d\d?)\2(\d\d?)|(\d\d)(\d\d))"
                         r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z| UTC| GMT|[+-]\d\d:?\d\d)?)?", text)
    if not match:
        return None
    year, _, *date, hour, minute, second, fraction, zone = match.groups()
    month, day = [part for part in date if part]
    try:
        at = datetime.datetime(int(year), int(month), int(day)) - EPOCH
    except ValueError:
        return False
    value = decimal.Decimal(at.days * 86400 + int(hour or 0) * 3600 + int(minute or 0) * 60 + int(second or 0))
    if zone and zone[0] in "+-":
        value -= (1 if zone[0] == "+" else -1) * (int(zone[1:3]) * 3600 + int(zone[-2:]) * 60)
    return value + decimal.Decimal("0." + (fraction or "0"))


def same_odd_time(sent, got):
    """A time in another form: as many seconds, or of that year."""
    if re.search(r"(?<!\d)\d{4}(\D)(0|00)(?!\d)|(?<!\d)\d{4}(\D)\d{1,2}\3(0|00)(?!\d)|(?<!\d)(\d{4}|\d{6})00(\d\d|\d{6}|\d{8})?(?!\d)", sent) or \
            re.match(r"\s*(0|00)[./-]|\s*\d{1,2}[./-](0|00)(?!\d)", sent):
        return False  # no such month or day, and January or the first is stored
    if re.fullmatch(r"\d{9,10}(\.\d*)?|\d{13}|\d{16}|\d{19}", sent):
        seconds = decimal.Decimal(sent[:10].split(".")[0] if len(sent) != 9 else sent)
        return int(instant(got.replace(" ", "T") + "Z")) - seconds in (0, 3600, 7200)
    years = re.findall(r"(?<!\d)\d{4}(?!\d)|^\d{4}(?=\d{4}(?!\d))", sent)
    if got[:19] in ("1970-01-01 00:00:00", "2106-02-07 06:28:15", "1970-01-01 01:00:00", "2106-02-07 07:28:15"):
        return not years or any(year in ("1970", "2106") for year in years)
    return not years or any(abs(int(year) - int(got[:4])) <= 1 for year in years)


def same_time(scale, sent, got, zoned):
    stored = instant(got.replace(" ", "T") + "Z") if got >= "0001" else instant("0004" + got[4:].replace(" ", "T") + "Z") - 1461 * 86400
    if zoned and not isinstance(sent, str):
        return stored - sent in (3600, 7200)
    if zoned:
        meant = instant(sent)
        return same_odd_time(sent, got) if meant is None else meant is not False and \
            int(stored) - int(meant) in ((3600, 3600 if got[:4] in ("1970", "2106") else 7200)
                                        if re.search(r"(Z|UTC|GMT|[+-]\d\d:?\d\d)$", sent[10:]) else (0,))
    if not isinstance(sent, str):
        return sent == stored * 10 ** scale
    meant = instant(sent)
    if meant is None:
        return same_odd_time(sent, got)
    return meant is not False and abs(stored - meant) < decimal.Decimal(10) ** -scale


def same_date(sent, got):
    if not isinstance(sent, str):
        # Python has no year 0, which is as long as the year 4.
        days = datetime.date.fromisoformat(got if got >= "0001" else "0004" + got[4:]) - EPOCH.date()
        return not isinstance(sent, bool) and sent == days.days - (1461 if got < "0001" else 0)
    match = re.fullmatch(r"(\d{4})\D(\d{1,2})\D(\d{1,2})|(\d{4})(\d\d)(\d\d)", sent)
    return bool(match) and [int(x) for x in match.groups() if x] == [int(x) for x in got.split("-")]


def same_clock(scale, sent, got):
    sign, *parts = re.fullmatch(r"(-?)(?:(\d+):)??(?:(\d+):)?(\d+(?:\.\d+)?)", got).groups()
    stored = sum(decimal.Decimal(part or 0) * 60 ** n for n, part in enumerate(reversed(parts))) * (-1 if sign else 1)
    if not isinstance(sent, str):
        return not isinstance(sent, bool) and sent == stored * 10 ** scale
    match = re.fullmatch(r"(-?)(?:(\d+):)??(?:(\d+):)?(\d+(?:\.\d+)?)", sent)
    if not match:
        return False
    meant = sum(decimal.Decimal(part or 0) * 60 ** n for n, part in enumerate(reversed(match.groups()[1:]))) * (-1 if match[1] else 1)
    return abs(stored - meant) < decimal.Decimal(10) ** -scale


def number(sent):
    if isinstance(sent, str):
        return decimal.Decimal(sent) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", sent) else None
    return decimal.Decimal(sent) if isinstance(sent, (int, decimal.Decimal)) else None


def same_float(sql, sent, got):
    if isinstance(sent, str) and re.match(r"[+-]?(inf|nan)", sent, re.I):
        return True
    if isinstance(sent, str) and sent in ("true", "false"):
        return True
    meant = number(sent)
    if meant is None or isinstance(got, str):
        return False
    return abs(decimal.Decimal(got) - meant) <= abs(meant) * decimal.Decimal(0.01) + decimal.Decimal("1e-37")


def same_inside(sql, sent, got):
    head = sql.split("(")[0]
    if head == "Array":
        return isinstance(sent, list) and len(sent) == len(got) and all(same(arguments(sql)[0], *pair) for pair in zip(sent, got))
    if head == "Map":
        values = arguments(sql)[1]
        return isinstance(sent, dict) and all(same(arguments(sql)[0], *pair) for pair in zip(sent, got)) and \
            all(same(values, *pair) for pair in zip(sent.values(), got.values()))
    parts = [part.split(" ", 1) if not part.startswith("`") else [part[1:part.index("`", 1)], part[part.index("`", 1) + 2:]]
             for part in arguments(sql)]
    if len(parts[0]) == 1:
        return isinstance(sent, list) and len(sent) == len(got) and all(same(part[0], *pair) for part, *pair in zip(parts, sent, got))
    return isinstance(sent, dict) and all(same(kind, sent[name], got[name]) for name, kind in parts if name in sent)


def same_or_other(sql, sent, got):
    """One type of a Variant: the value may be of another."""
    try:
        return same(sql, sent, got)
    except (ValueError, TypeError, AttributeError, decimal.InvalidOperation):
        return False


def same(sql, sent, got):
    """Whether a stored value is what was sent."""
    sql, nullable = unwrap(sql)
    head = sql.split("(")[0]
    if sent is None:
        return got is None
    if head == "Variant":
        return any(same_or_other(kind, sent, got) for kind in arguments(sql))
    if head == "Nested":
        return same(f"Array(Tuple({sql[7:-1]}))", sent, got)
    if head in ("Array", "Map", "Tuple"):
        return same_inside(sql, sent, got)
    if head == "String":
        return True
    if head == "JSON":
        return isinstance(sent, dict)
    if head in ("Dynamic", "AggregateFunction"):
        return True
    if head == "Time":
        return same_clock(0, sent, got)
    if head == "Time64":
        return same_clock(int(sql[7:-1]), sent, got)
    if head.startswith(("Int", "UInt")):
        if isinstance(sent, str) and sent in ("true", "false"):
            return True
        return (isinstance(sent, int) or bool(re.fullmatch(r"[+-]?\d+", str(sent)))) and int(sent) == int(got)
    if head.startswith(("Float", "BFloat")):
        return same_float(sql, sent, got)
    if head == "Decimal":
        if isinstance(sent, str):
            sent = re.sub(r"([eE]|\.)$", "", sent)  # dropped without a word, and without harm
        return number(sent) == decimal.Decimal(got)
    if head == "Bool":
        return bool(sent) == got
    if head == "FixedString":
        return isinstance(sent, str) and got.rstrip("\0") == sent.rstrip("\0")
    if head == "UUID":
        return uuid.UUID(sent) == uuid.UUID(got)
    if head == "IPv4":
        return [int(part) for part in sent.split(".")] == [int(part) for part in got.split(".")]
    if head == "IPv6":
        plain = re.sub(r"(?<![0-9a-f.:])0+(?=\d+\.)|(?<=\.)0+(?=\d)|(?<=:)0+(?=\d+\.)", "", sent.lower())
        plain = plain if ":" in plain else "::ffff:" + plain
        try:
            return ipaddress.IPv6Address(plain) == ipaddress.IPv6Address(got)
        except ValueError:
            return ":" in got  # ClickHouse reads a bit more, such as :: for no group at all
    if head.startswith("Enum"):
        values = {str(value): name for name, value in ENUM.items()}
        return str(sent) == got or (not isinstance(sent, bool) and values.get(str(sent).replace("+", "").lstrip("0") or "0") == got)
    if head in ("Date", "Date32"):
        return same_date(sent, got)
    if head == "DateTime":
        return not isinstance(sent, bool) and same_time(0, sent, got, "Berlin" in sql)
    return not isinstance(sent, bool) and same_time(int(re.search(r"\d", sql[10:])[0]), sent, got, False)


class Engine:
    def __init__(self, clickhouse):
        self.url = clickhouse.url

    def post(self, sql, data=b"", **settings):
        query = urllib.parse.urlencode({"query": sql, **SETTINGS, **settings})
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{self.url}/?{query}", data=data), timeout=60) as answer:
                return answer.read().decode(), None
        except urllib.error.HTTPError as error:
            return None, error.read().decode()

    def insert(self, table, rows):
        """Inserts the rows that the table takes. An error that stops the insert names its row."""
        while rows:
            data = "".join(f'{{"n":{n},"v":{value}}}\n' for n, value in rows).encode()
            _, error = self.post(f"INSERT INTO {table} FORMAT JSONEachRow", data, input_format_allow_errors_num="1000000")
            if error is None:
                return
            at = re.search(r"\(at row (\d+)\)", error)
            if at is None and len(rows) == 1:
                return
            at = int(at[1]) if at else len(rows) // 2
            self.insert(table, rows[:at - (1 if len(rows) > 1 and "(at row" in error else 0)])
            rows = rows[at:]

    def stored(self, sql, values):
        table = "default.schema_values"
        self.post(f"DROP TABLE IF EXISTS {table}")
        _, error = self.post(f"CREATE TABLE {table} (n UInt32, v {sql}) ENGINE = Memory")
        assert error is None, error
        self.insert(table, list(enumerate(values)))
        out, error = self.post(f"SELECT n, v FROM {table} FORMAT JSONEachRow", output_format_json_quote_denormals="1",
                               output_format_json_quote_64bit_integers="0", output_format_json_quote_decimals="1")
        if error is not None:  # null in an Enum without 0 cannot even be read
            out, error = self.post(f"SELECT n, toString(v) v FROM {table} FORMAT JSONEachRow")
        assert error is None, error
        rows = (json.loads(line, parse_float=decimal.Decimal) for line in out.splitlines())
        return {row["n"]: row["v"] for row in rows}

    def stored_alone(self, sql, values):
        """As stored(), but each value is an insert: one that is at fault may take the next with it."""
        return {n: got[0] for n, value in values.items() if (got := self.stored(sql, [value]))}


def verdicts(sql, values):
    lines = "".join(f"{sql}\t{value}\n" for value in values)
    return subprocess.run([harness.BUILD / "tests" / "schema_verdict"], input=lines, capture_output=True, text=True,
                          check=True).stdout.split()


def generated(sql):
    r = random.Random(f"{SEED} {sql}")
    make = TYPES[sql]
    values = ANY + [make(r) for _ in range(COUNT)] + [of(stamp, word, integer, real, small)(r) for _ in range(COUNT // 6)]
    out = []
    for value in dict.fromkeys(values):
        try:
            json.loads(value)
        except ValueError:
            continue
        out.append(value)
    return out


def compare(engine, sql):
    values = generated(sql)
    stored = engine.stored(sql, values)
    told = verdicts(sql, values)
    assert len(told) == len(values)
    stored |= engine.stored_alone(sql, {n: values[n] for n in range(len(values)) if n not in stored and told[n] == "none"
                                        and not UNCHECKED.match(sql)})
    counts = {"values": len(values), "stored": 0, "told": 0, "passed": []}
    faults = []
    for n, (value, problem) in enumerate(zip(values, told)):
        sent = json.loads(value, parse_float=decimal.Decimal)
        kept = n in stored and same(sql, sent, stored[n])
        # A DateTime64 that looks like seconds is what it says, and yet a day in 1970.
        if problem == "unit" and n in stored:
            assert re.search('"19(69|70|71)-', json.dumps(stored[n])), (sql, value, stored[n])
            kept = False
        counts["stored"] += kept
        counts["told"] += problem != "none"
        if kept and problem != "none":
            faults.append((value, problem, stored[n]))
        if not kept and problem == "none":
            counts["passed"].append((value, stored.get(n, "refused")))
    return counts, faults


@pytest.mark.parametrize("sql", TYPES)
def test_nothing_is_told_that_the_engine_takes_as_it_is(clickhouse, sql):
    counts, faults = compare(Engine(clickhouse), sql)
    print(f"\n{sql}: {counts['values']} values, {counts['stored']} stored as they are, {counts['told']} told, "
          f"{len(counts['passed'])} not stored as they are and not told")
    for value, got in counts["passed"]:
        print(f"    {value} -> {got}")
    assert not faults, faults
    TOTALS[sql] = counts
    # Of what is not stored as it is the check knows most.
    if not UNCHECKED.match(sql):
        assert len(counts["passed"]) <= max(3, (counts["values"] - counts["stored"]) * 0.1), counts["passed"]


def test_what_passes_and_is_not_stored_is_told():
    """Not a test: the sum of what the tests above have listed."""
    for name, types in ("checked", [sql for sql in TOTALS if not UNCHECKED.match(sql)]), ("unchecked", [sql for sql in TOTALS if UNCHECKED.match(sql)]):
        values, stored = (sum(TOTALS[sql][what] for sql in types) for what in ("values", "stored"))
        passed = [got == "refused" for sql in types for _, got in TOTALS[sql]["passed"]]
        print(f"\n{len(types)} {name} types: {values} values, {stored} stored as they are; the check let pass {sum(passed)} that were refused, "
              f"and {len(passed) - sum(passed)} that were changed")
