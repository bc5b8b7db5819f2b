// Package filter is the grammar shared by --filter, the / of the screens and the hub: text in, a yes or no for anything
// with named fields out. It must not know what the fields mean.
//
// A filter is a list of terms with spaces between them, all of which must hold:
//
//	filter := { term }
//	term   := [ "!" ] ( field op value { "," value } | value { "," value } )
//	op     := ":" | "=" | "!=" | "~" | "<" | "<=" | ">" | ">="
//	value  := characters without space, comma and quote | '"' any, with \" and \\ '"'
//
// A comma means or, a leading ! means not. ":" means contains: for an address, lies in that range or is that address; for
// other text, holds these characters. "=" means is, "!=" is not, "~" matches the regular expression (RE2; here a comma is
// a comma). "<" and its kin compare numbers, durations such as 5m or 1m30s (a bare number means seconds there) and times
// (RFC 3339). Letters match in either case, but for "~". A value without a field is looked for in every field, with the
// meaning of ":". A field that a record lacks is unknown: it is not anything, so only "!" and "!=" hold for it.
//
//	ns:payments state:stalled left<5m
//	node=node-a !pod~^canary
//	peer:10.0.3.0/24 retrans>=3
//	culprit:node-a,node-b "no inventory"
package filter
