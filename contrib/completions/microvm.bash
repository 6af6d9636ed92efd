# SPDX-License-Identifier: Apache-2.0
# bash completion for microvm(1). Options and keys come from the program's own help.

_microvm_keys() {
	"$1" --help "$2" 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*=\{0,1\}\).*/\1/p'
}

_microvm_values() {
	"$1" --help "$2" 2>/dev/null | sed -n "s/^  --$2 \([a-z|]*\) .*/\1/p" | tr '|' ' '
}

_microvm() {
	local program=${COMP_WORDS[0]} cur prev words
	cur=${COMP_WORDS[COMP_CWORD]}
	prev=${COMP_WORDS[COMP_CWORD - 1]}

	case $prev in
	--kernel | --initrd | --config | --summary | --pidfile)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--help | -h)
		words="check $("$program" --help 2>/dev/null | sed -n 's/^  \([a-z]*\) .*: --.*/\1/p')"
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
		;;
	--transport | --log)
		mapfile -t COMPREPLY < <(compgen -W "$(_microvm_values "$program" "${prev#--}")" -- "$cur")
		return
		;;
	check)
		mapfile -t COMPREPLY < <(compgen -W --help -- "$cur")
		return
		;;
	--cpus | --cmdline | --timeout | --name)
		return
		;;
	--no-* | --debug-exit | --print-config | --version) ;;
	--*)
		local before=
		[[ $cur == *,* ]] && before=${cur%,*},
		compopt -o nospace
		mapfile -t COMPREPLY < <(compgen -P "$before" -W "$(_microvm_keys "$program" "${prev#--}")" \
			-- "${cur##*,}")
		[[ $before ]] || mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	esac

	words=$("$program" --help 2>/dev/null | sed -n '/^  [a-z]* .*: --/{s/.*: --/--/;p}')
	((COMP_CWORD == 1)) && words+=" check"
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _microvm microvm
