package diagnose

import "strings"

// arg writes a name as one argument of a command that is printed to be copied into a shell. Names come from agents and recordings,
// which may be anybody's: all that is not plain is quoted, and what no quotes make harmless, since a program or a terminal takes it
// for more than a name, is left out.
func arg(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, strings.TrimLeft(name, "-"))
	if clean != "" && strings.IndexFunc(clean, notPlain) < 0 {
		return clean
	}
	return "'" + strings.ReplaceAll(clean, "'", `'\''`) + "'"
}

// notPlain says whether a shell may take a character for more than itself. Names in Kubernetes have none of these.
func notPlain(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._:/", r)
}
