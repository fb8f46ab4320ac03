#compdef coxctl
compdef _coxctl coxctl

# Completion of coxctl for zsh. Load it with: source <(coxctl completion zsh)

_coxctl() {
    local tab=$'\t' line value about directive lead
    local -a lines asked described options
    asked=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
    lines=("${(@f)$("${(Q)words[1]}" __complete "${asked[@]}" 2>/dev/null)}")
    directive=${lines[-1]#:}
    [[ $directive == <-> ]] || { _files; return }
    lines=("${(@)lines[1,-2]}")
    (( directive & 1 )) && return 1

    # A value's candidates are for what follows the = of its flag.
    if [[ $PREFIX == -*=* ]]; then
        compset -P '*='
    fi
    if (( directive & 8 )); then
        _files -g "*.(${(j:|:)lines})"
        return
    fi
    if (( directive & 16 )); then
        _files -/
        return
    fi
    for line in "${(@)lines}"; do
        [[ -n $line ]] || continue
        value=${line%%"$tab"*}
        about=${line#"$value"}
        about=${about#"$tab"}
        # _describe splits at colons.
        value=${value//:/\\:}
        described+=("$value${about:+:$about}")
    done
    (( directive & 2 )) && options+=(-S '')
    (( directive & 32 )) && options+=(-V)
    if (( $#described )); then
        _describe -t candidates candidate described "${options[@]}"
    elif (( ! (directive & 4) )); then
        _files
    fi
}

# Loaded as a function of fpath, the file is the function's body.
if [[ $funcstack[1] == _coxctl ]]; then
    _coxctl "$@"
fi
