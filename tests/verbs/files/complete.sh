# What bash would offer for the words of a command line, the last being written: complete.sh WORDS...
# kubectl's script takes the line apart with a function of the package bash-completion; this one stands in for it.
_get_comp_words_by_ref() {
    words=("${COMP_WORDS[@]}")
    cword=$COMP_CWORD
    cur=${words[cword]}
    prev=${words[cword - 1]}
}

# Outside of a completion it has nothing to set.
compopt() { :; }

name=$(basename "$PROGRAM")
source <("$PROGRAM" completion bash)
COMP_WORDS=("$PROGRAM" "$@")
COMP_CWORD=$#
COMP_TYPE=9
COLUMNS=300
"__start_$name"
printf '%s\n' "${COMPREPLY[@]}"
