package main

// rungCosts says what a user misses on a rung that is not a fact's best, by fact and rung. A rung that is not in it tells the same as the
// best one, as soon and as exactly.
var rungCosts = map[[2]string]string{
	{"retransmit", ""}:       "stalled connections are noticed by looking at all sockets now and then, seconds later",
	{"error", ""}:            "that an application was told of an error, such as a timeout, is not seen",
	{"error", "state"}:       "an error that does not end its connection, such as a lost route, is not seen",
	{"reset", ""}:            "a connection that its peer resets is only seen to be gone",
	{"state", ""}:            "how a stalled connection ended is not seen, only that it is gone at the next look",
	{"probe", "census"}:      "idle connections whose peer is gone are noticed one look later: within seconds, not at the unanswered probe",
	{"sockets", ""}:          "no socket is seen that is not in trouble, so that nobody can say how many are well",
	{"sockets", "sockfs"}:    "nothing is missed; a look at all sockets takes up to half as much processor time again, and so comes less often",
	{"sockets", "sock_diag"}: "sockets of other network namespaces (pods) are not seen, nor which process holds one",
	{"nat", ""}:              "which client and which pod a translated connection joins is not known, so nodes are inferred and not proved",
	{"nat", "ctnetlink"}:     "the end of a translation that is older than midhop is noticed at the next reading of the table, about a minute later",
	{"recovery", ""}:         "how stalled connections get on is not followed",
	{"recovery", "census"}:   "how stalled connections get on is seen one look later, and one that its application has closed is lost from sight",
	{"reset_sent", ""}:       "resets that this machine sends for connections that it does not know are not seen",
}

// costOf returns what a user misses where a rung serves a fact, or none does; empty where that is nothing.
func costOf(fact, rung string) string { return rungCosts[[2]string{fact, rung}] }
