# Completion of coxctl for bash. Load it with: source <(coxctl completion bash)
# For an alias k: complete -o default -F __start_coxctl k

# Splits the line at blanks only; bash itself splits at = and : too. The words up to the cursor go to `words`.
__coxctl_words() {
    words=()
    if [[ -z ${COMP_LINE-} ]]; then
        words=("${COMP_WORDS[@]:0:COMP_CWORD+1}")
        return
    fi
    local rest=${COMP_LINE:0:COMP_POINT} part i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        part=${COMP_WORDS[i]}
        local stripped=${rest#"${rest%%[![:space:]]*}"}
        ((i == COMP_CWORD)) && part=$stripped
        if ((i == 0)) || [[ $stripped != "$rest" ]]; then
            words+=("$part")
        else
            words[${#words[@]} - 1]+=$part
        fi
        rest=${stripped#"$part"}
    done
}

# Takes quotes and backslashes off a word, and runs nothing.
__coxctl_unquote() {
    local word=$1
    case $word in
        "~/"*) word=$HOME/${word:2} ;;
        \"*) word=${word#\"} word=${word%\"} ;;
        \'*) word=${word#\'} word=${word%\'} ;;
        *\\*) word=${word//\\/} ;;
    esac
    unquoted=$word
}

# Files with the endings given, and directories to look into.
__coxctl_files() {
    local file ending
    while IFS= read -r file; do
        if [[ -d $file ]]; then
            COMPREPLY+=("$file")
            continue
        fi
        for ending in "$@"; do
            [[ $file == *."$ending" ]] && COMPREPLY+=("$file")
        done
    done < <(compgen -f -- "$cur")
    __coxctl_option -o filenames
}

__coxctl_option() {
    [[ $(type -t compopt) == builtin ]] && compopt "$@" 2>/dev/null
}

# Shows what each candidate means where several are listed; a single one is put in as it is.
__coxctl_describe() {
    local tab=$'\t' line value longest=0 width=${COLUMNS:-80}
    local described=1
    ((${#COMPREPLY[@]} < 2)) || [[ ${COMP_TYPE-} == 37 || ${COMP_TYPE-} == 42 ]] && described=0
    for line in "${COMPREPLY[@]}"; do
        value=${line%%"$tab"*}
        ((${#value} > longest)) && longest=${#value}
    done
    local i room=$((width - longest - 5))
    for i in "${!COMPREPLY[@]}"; do
        line=${COMPREPLY[i]}
        value=${line%%"$tab"*}
        if ((described)) && [[ $line == *"$tab"* ]] && ((room > 8)); then
            line=${line#*"$tab"}
            ((${#line} > room)) && line=${line:0:room-3}...
            printf -v line '%-*s  (%s)' "$longest" "$value" "$line"
            COMPREPLY[i]=$line
        elif ((${#COMPREPLY[@]} == 1)); then
            printf -v line '%q' "$value"
            # A tilde or a comma needs no care at the end of a word.
            COMPREPLY[i]=${line//\\,/,}
        else
            COMPREPLY[i]=$value
        fi
    done
}

__start_coxctl() {
    local words cur unquoted program i
    COMPREPLY=()
    __coxctl_words
    for i in "${!words[@]}"; do
        __coxctl_unquote "${words[i]}"
        words[i]=$unquoted
    done
    cur=${words[${#words[@]} - 1]}
    # An alias is not a program that can be asked.
    program=$(type -P -- "${words[0]}") || program=coxctl

    local line lines=()
    while IFS= read -r line; do
        lines+=("$line")
    done < <("$program" __complete "${words[@]:1}" 2>/dev/null)
    ((${#lines[@]})) || return
    local directive=${lines[${#lines[@]} - 1]#:}
    unset "lines[${#lines[@]} - 1]"
    [[ $directive =~ ^[0-9]+$ ]] && ((!(directive & 1))) || return

    # A value's candidates are for what follows the = of its flag.
    local lead=
    [[ $cur == -*=* ]] && lead=${cur%%=*}=
    if ((directive & 8)); then
        cur=${cur#"$lead"}
        __coxctl_files "${lines[@]}"
        return
    fi
    if ((directive & 16)); then
        __coxctl_option -o filenames
        cur=${cur#"$lead"}
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -d -- "$cur")
        return
    fi
    ((directive & 2)) && __coxctl_option -o nospace
    ((directive & 32)) && __coxctl_option -o nosort
    ((directive & 4)) && __coxctl_option +o default
    # Readline replaces only what follows the last character it splits words at.
    local known=
    [[ ${COMP_LINE-} && $cur == *[=:]* ]] && known=${cur%"${cur##*[=:]}"}
    [[ $known == *: && $COMP_WORDBREAKS != *:* ]] && known=
    [[ $known == *= && $COMP_WORDBREAKS != *=* ]] && known=
    for line in "${lines[@]}"; do
        line=$lead$line
        COMPREPLY+=("${line#"$known"}")
    done
    __coxctl_describe
}

complete -o default -F __start_coxctl coxctl
