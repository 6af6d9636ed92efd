# SPDX-License-Identifier: Apache-2.0
# bash completion for microvm(1). Options and keys come from the program's own help.

_microvm_keys() {
	"$1" --help "$2" 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*=\{0,1\}\).*/\1/p'
}

_microvm_values() {
	"$1" --help "$2" 2>/dev/null | sed -n "s/^  --$2 \([a-z|]*\) .*/\1/p" | tr '|' ' '
}

# Of a command of microvm image: its options, the choices of one, or a file.
_microvm_image() {
	local program=$1 command=$2 prev=$3 cur=$4 words
	if [[ ! $command ]]; then
		words="create info resize check --help"
	elif [[ $prev == --* ]]; then
		words=$("$program" image "$command" --help 2>/dev/null |
			sed -n "s/^  $prev \([a-z0-9|]*\) .*/\1/p" | tr '|' ' ')
	elif [[ $cur == -* ]]; then
		words="--help $("$program" image "$command" --help 2>/dev/null | sed -n 's/^  \(--[a-z-]*\).*/\1/p')"
	fi
	if [[ $words ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	else
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	fi
}

_microvm() {
	local program=${COMP_WORDS[0]} cur prev words
	cur=${COMP_WORDS[COMP_CWORD]}
	prev=${COMP_WORDS[COMP_CWORD - 1]}

	if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} == image ]]; then
		((COMP_CWORD == 2)) || words=${COMP_WORDS[2]}
		_microvm_image "$program" "$words" "$prev" "$cur"
		return
	fi
	if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} == vsock ]]; then
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -W "--help --listen" -- "$cur"; compgen -f -- "$cur")
		return
	fi
	case $prev in
	--kernel | --initrd | --config | --summary | --screenshot-at-exit | --pidfile)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--help | -h)
		words="check image $("$program" --help 2>/dev/null | sed -n 's/^  \([a-z]*\) .*: --.*/\1/p')"
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
	((COMP_CWORD == 1)) && words+=" check image vsock"
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _microvm microvm
