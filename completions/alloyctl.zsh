#compdef alloyctl
# SPDX-License-Identifier: Apache-2.0
# Completion of alloyctl for zsh. All it knows comes from `alloyctl --help` and `alloyctl COMMAND --help`.

setopt localoptions extendedglob
local typed= command= line
local -a next=() options=() lines=()
integer i

for ((i = 2; i < CURRENT; i++)); do
    [[ $words[i] == -* ]] && break
    typed+="$words[i] "
done
# The commands: what stands behind "Commands:", up to two spaces.
for line in ${(f)"$($words[1] --help 2>/dev/null)"}; do
    [[ $line == (#b)'  '([a-z]([a-z-]| [a-z])#)('  '*|) ]] || continue
    line=$match[1]
    [[ $typed == "$line "* ]] && (($#line > $#command)) && command=$line
    if ((i == CURRENT)) && [[ "$line " == "$typed"* && "$line " != "$typed" ]]; then
        line=${line#$typed}
        next+=(${line%% *})
    fi
done
if [[ $PREFIX != -* ]] && (($#next)); then
    compadd -- ${(u)next}
    return
fi
lines=(${(f)"$($words[1] ${=command} --help 2>/dev/null)"})
if [[ $words[CURRENT-1] == --* && $PREFIX != -* ]]; then
    if [[ -n ${(M)lines:#*$words[CURRENT-1]\ (FILE|DIR)*} ]]; then
        _files
        return
    fi
    [[ -n ${(M)lines:#*$words[CURRENT-1]\ [A-Z]*} ]] && return
fi
if [[ $PREFIX == -* ]]; then
    for line in $lines; do
        [[ $line == (#b)'  '(-?),\ (--[a-z-]##)* ]] && options+=($match[1] $match[2]) && continue
        [[ $line == (#b)'  '(--[a-z-]##)* ]] && options+=($match[1])
    done
    compadd -- ${(u)options}
else
    _files
fi
