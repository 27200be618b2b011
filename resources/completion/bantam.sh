# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Completion for bash (and zsh after `autoload -U bashcompinit && bashcompinit`): sourced, or installed under the programs'
# names. Words come from each program's own --help, so that they are always those of the program that is called.

# What may follow: the flags of --help; after a flag that takes a value, files, or the values that --help lists.
_bantam_flags() {
	local word=$2 previous=$3 line value
	line=$("$1" --help 2>/dev/null | grep -m 1 -E -- "^ +$previous( |\$)" || true)
	value=$(sed -nE "s/^ +$previous ([^ ]+)  .*/\1/p" <<<"$line")
	COMPREPLY=()
	case $value in
	"") mapfile -t COMPREPLY < <(compgen -W "$("$1" --help 2>/dev/null | grep -oE '^ +--?[a-z][a-z-]*' | tr -d ' ')" -- "$word") ;;
	PATH | FILE | DIR) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
	LEVEL) mapfile -t COMPREPLY < <(compgen -W "Error Warning Info Debug Trace Off" -- "$word") ;;
	MODE) mapfile -t COMPREPLY < <(compgen -W "file memfd shared" -- "$word") ;;
	*\|*) mapfile -t COMPREPLY < <(compgen -W "${value//|/ }" -- "$word") ;;
	esac
}

# Words of the commands in the usage (`bantam snapshot merge …`), then files.
_bantam_words() {
	local word=$2 typed line words
	typed="bantam ${COMP_WORDS[*]:1:COMP_CWORD-1}"
	words=$("$1" --help 2>/dev/null | while read -r line; do
		[[ $line == "${typed% } "* ]] || continue
		read -r line _ <<<"${line#"${typed% } "}"
		[[ $line =~ ^[a-z]+$ ]] && echo "$line"
	done | sort -u)
	COMPREPLY=()
	if [ -n "$words" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
	elif [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "-o --json" -- "$word")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
	fi
}

complete -o filenames -F _bantam_flags bantam-vmm bantam-jailer bantam-seccomp
complete -o filenames -F _bantam_words bantam
