# SPDX-License-Identifier: Apache-2.0
# Completion of alloyctl for bash. All it knows comes from `alloyctl --help` and `alloyctl COMMAND --help`.

# The commands, one a line: what stands behind "Commands:", up to two spaces.
_alloyctl_commands()
{
    "$1" --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z]\([a-z-]\| [a-z]\)*\)\(  .*\)\{0,1\}$/\1/p'
}

_alloyctl()
{
    local program=${COMP_WORDS[0]/#\~\//$HOME/} cur=${COMP_WORDS[COMP_CWORD]}
    local prev=${COMP_WORDS[COMP_CWORD - 1]} typed= command= line help i

    COMPREPLY=()
    # The command is the words before the first option.
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} != -* ]] || break
        typed+="${COMP_WORDS[i]} "
    done
    local -a next=()
    while IFS= read -r line; do
        [[ "$typed" != "$line "* || ${#line} -le ${#command} ]] || command=$line
        [[ "$line " == "$typed"* && $i == "$COMP_CWORD" && "$line " != "$typed" ]] || continue
        line=${line#"$typed"}
        next+=("${line%% *}")
    done < <(_alloyctl_commands "$program")
    if [[ $cur != -* && ${#next[@]} -gt 0 ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${next[*]}" -- "$cur")
        return
    fi
    # shellcheck disable=SC2086
    help=$("$program" $command --help 2>/dev/null)
    if [[ $prev == --* && $cur != -* ]]; then
        if grep -qE -- "$prev (FILE|DIR)" <<<"$help"; then
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            compopt -o filenames 2>/dev/null
            return
        elif grep -qE -- "$prev [A-Z]" <<<"$help"; then
            return
        fi
    fi
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(
            sed -n 's/^  \(-.\), \(--[a-z-]*\).*/\1 \2/p; s/^  \(--[a-z-]*\).*/\1/p' <<<"$help"
        )" -- "$cur")
    elif grep -qE '\[?(DIR|FILE)' <<<"$help"; then
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
    fi
}

complete -F _alloyctl alloyctl
