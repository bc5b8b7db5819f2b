// Package redact takes the addresses of clients out of facts before they are folded, so that a recording can be shared:
// each gets a pseudonym, the same everywhere, and what is found in the facts speaks of pseudonyms too. It must not know what
// a rule or a screen is.
package redact
