"""DuckDB's functions by what they do: data, and who calls what.

Owns the lists. A function of no list is not trusted to look at one row alone. A test holds the lists against the
functions of the installed DuckDB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlglot import TokenType, exp

from sundog.queries.parsed import Query, offset_of


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Another value at each call, at each time or in each session, or something done beside the value.
VOLATILE_NAMES = _words(
    """
    current_connection_id current_query current_query_id current_transaction_id currval error gen_random_uuid nextval
    random setseed setval sleep_ms stats uuid uuidv4 uuidv7 vector_type write_log getenv pg_sleep assert_true
    current_database current_catalog current_schema current_schemas current_setting current_user current_role
    session_user user getvariable in_search_path txid_current get_block_size
    ago now today transaction_timestamp get_current_time get_current_timestamp
    current_date current_time current_timestamp current_localtime current_localtimestamp localtime localtimestamp
    pg_conf_load_time pg_postmaster_start_time format_type pg_typeof
    """
)

# These read the clock; with one argument only in the case of `age`.
CLOCK_NAMES = _words(
    """
    ago now today transaction_timestamp get_current_time get_current_timestamp current_date current_time
    current_timestamp current_localtime current_localtimestamp localtime localtimestamp age
    """
)

# These are written without parentheses too.
_BARE_WORDS = _words(
    """
    current_date current_time current_timestamp localtime localtimestamp current_user session_user current_role
    current_catalog current_schema
    """
)

# Aggregates whose value depends on the order in which the rows come.
ORDERED_AGGREGATES = _words(
    """
    list array_agg string_agg group_concat listagg first last any_value arbitrary arg_max arg_min argmax argmin max_by
    min_by arg_max_null arg_min_null arg_max_nulls_last arg_min_nulls_last mode json_group_array json_group_object
    json_group_structure variant_group_array reservoir_quantile approx_quantile lttb
    """
)

# What sqlglot parses by a rule of its own, without keeping the name: one value out of one row.
_PURE_SYNTAX = _words(
    """
    And Or Xor Case If Cast TryCast Coalesce Pow Abs JSONExtract JSONExtractScalar Struct Array ToMap Extract Trim
    Substring StrPosition RegexpLike RegexpILike ArrayContainsAll ArrayOverlaps Collate Concat Exists
    """
)

# Functions and macros that make one value out of one row, always the same.
PURE_NAMES = _words(
    """
    abs acos acosh add age apply array_aggr array_aggregate array_append array_apply array_cat array_concat
    array_contains array_cosine_distance array_cosine_similarity array_cross_product array_distance array_distinct
    array_dot_product array_extract array_filter array_grade_up array_has array_has_all array_has_any array_indexof
    array_inner_product array_intersect array_length array_negative_dot_product array_negative_inner_product
    array_pop_back array_pop_front array_position array_prepend array_push_back array_push_front array_reduce
    array_resize array_reverse array_reverse_sort array_select array_slice array_sort array_to_json array_to_string
    array_to_string_comma_default array_transform array_unique array_where array_zip ascii asin asinh atan atan2
    atanh base64 bin bit_count bit_length bit_position bitstring cardinality cbrt ceil ceiling century char_length
    character_length chr coalesce concat concat_ws contains cos cosh cot damerau_levenshtein date_add date_diff
    date_part date_sub date_trunc datediff datepart datesub datetrunc day dayname dayofmonth dayofweek dayofyear
    days_in_month decade decode degrees divide editdist3 element_at encode ends_with enum_code enum_first enum_last
    enum_range enum_range_boundary epoch epoch_ms epoch_ns epoch_us era even exp factorial fdiv filter flatten floor
    fmod format format_bytes from_base64 from_binary from_hex from_json from_json_strict gamma gcd generate_series
    get_bit grade_up greatest greatest_common_divisor hamming hash hex hour if ilike_escape instr isfinite isinf
    isnan isodow isoyear jaccard jaro_similarity jaro_winkler_similarity json json_array json_array_length
    json_contains json_deep_merge json_exists json_extract json_extract_path json_extract_path_text
    json_extract_string json_insert json_keys json_merge_patch json_merge_patch_diff json_normalize json_object
    json_pretty json_quote json_remove json_replace json_set json_strip_nulls json_structure json_transform
    json_transform_strict json_type json_valid json_value julian last_day lcase lcm least least_common_multiple left
    left_grapheme len length length_grapheme levenshtein lgamma like_escape list_aggr list_aggregate list_any_value
    list_append list_apply list_approx_count_distinct list_avg list_bit_and list_bit_or list_bit_xor list_bool_and
    list_bool_or list_cat list_concat list_contains list_cosine_distance list_cosine_similarity list_count
    list_distance list_distinct list_dot_product list_element list_entropy list_extract list_filter list_first
    list_grade_up list_has list_has_all list_has_any list_histogram list_indexof list_inner_product list_intersect
    list_kurtosis list_kurtosis_pop list_last list_mad list_max list_median list_min list_mode
    list_negative_dot_product list_negative_inner_product list_pack list_position list_prepend list_product
    list_reduce list_resize list_reverse list_reverse_sort list_select list_sem list_skewness list_slice list_sort
    list_stddev_pop list_stddev_samp list_string_agg list_sum list_transform list_unique list_value list_var_pop
    list_var_samp list_where list_zip ln log log10 log2 lower lpad ltrim make_date make_time make_timestamp
    make_timestamp_ms make_timestamp_ns make_timestamptz map map_concat map_contains map_contains_entry
    map_contains_value map_entries map_extract map_extract_value map_from_entries map_keys map_values md5 md5_number
    md5_number_lower md5_number_upper microsecond millennium millisecond minute mismatches mod month monthname
    multiply nanosecond nextafter nfc_normalize not_ilike_escape not_like_escape nullif octet_length ord overlay
    parse_dirname parse_dirpath parse_filename parse_formatted_bytes parse_path pi position pow power prefix printf
    quarter radians range reduce regexp_escape regexp_extract regexp_extract_all regexp_full_match regexp_matches
    regexp_replace regexp_split_to_array repeat replace reverse right right_grapheme round round_even roundbankers
    row row_to_json rpad rtrim second set_bit sha1 sha256 sign signbit sin sinh split split_part sqrt starts_with
    str_split str_split_regex strftime string_split string_split_regex string_to_array strip_accents strlen strpos
    strptime struct_concat struct_contains struct_extract struct_extract_at struct_has struct_indexof struct_insert
    struct_keys struct_pack struct_position struct_update struct_values substr substring substring_grapheme subtract
    suffix switch tan tanh time_bucket timezone timezone_hour timezone_minute to_base to_base64 to_binary
    to_centuries to_days to_decades to_hex to_hours to_json to_microseconds to_millennia to_milliseconds to_minutes
    to_months to_quarters to_seconds to_timestamp to_weeks to_years translate trim trunc try_strptime typeof ucase
    unbin unhex unicode union_extract union_tag union_value upper url_decode url_encode uuid_extract_timestamp
    uuid_extract_version week weekday weekofyear xor year yearweek
    """
)


def called(query: Query) -> Iterator[tuple[str, int]]:
    """Return the names that the text calls, in small letters, with the place of each in the text.

    The words of the text are asked, not the tree: it renames functions. A name behind `as` is an alias; a word like
    `in` before a parenthesis is returned too.
    """
    words = query.tokens
    for index, token in enumerate(words):
        before = words[index - 1].token_type if index else None
        after = words[index + 1].token_type if index + 1 < len(words) else None
        if before is TokenType.ALIAS or not (token.token_type is TokenType.IDENTIFIER or token.text.isidentifier()):
            continue
        name = token.text.lower()
        is_bare = name in _BARE_WORDS and token.token_type is not TokenType.IDENTIFIER
        if after is TokenType.L_PAREN or (is_bare and TokenType.DOT not in (before, after)):
            yield name, token.start


def unknown_function(query: Query, nodes: Iterable[exp.Expr]) -> str | None:
    """Return the name of a function among `nodes` that is not known to make one value out of one row, None where there
    is none. What unnests a list or chooses columns is for others to judge."""
    for node in nodes:
        others = exp.Unnest | exp.Explode | exp.Columns
        if isinstance(node, exp.Func) and not isinstance(node, others) and not _is_pure(query, node):
            return spoken(query, node)[0]
    return None


def _is_pure(query: Query, node: exp.Func) -> bool:
    name = written_name(query, node)
    if name == "age":
        return len(node.expressions) == 2
    return name in PURE_NAMES if name else type(node).__name__ in _PURE_SYNTAX


def written_name(query: Query, node: exp.Func) -> str:
    """Return the function's name as the text has it, in small letters; empty for syntax without a name."""
    if "start" in node.meta:
        return query.sql[node.meta["start"] : node.meta["end"] + 1].strip('"').lower()
    return node.name.lower() if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc) else ""


def spoken(query: Query, node: exp.Func) -> tuple[str, int]:
    """Return the function's name for a message, in small letters, and its place: those of the text where they can be
    found."""
    first = offset_of(node)
    name = written_name(query, node)
    if name:
        return name, first
    index = next((index for index, token in enumerate(query.tokens) if token.start == first), 0)
    if index >= 2 and query.tokens[index - 1].token_type is TokenType.L_PAREN:
        token = query.tokens[index - 2]
        return token.text.lower(), token.start
    return node.sql_name().lower(), first
