package bpf

import "net/netip"

// SelfTestRange holds both ends of every connection that a self-test makes: a part of the loopback network (RFC 1122, section
// 3.2.1.3) that nothing else uses, so that each process knows what another's self-test has lost and reset on purpose.
var SelfTestRange = netip.MustParsePrefix("127.109.104.0/24")

// The two ends of a self-test's connections.
const (
	selfTestNear = "127.109.104.1"
	selfTestFar  = "127.109.104.2"
)

// OfSelfTest reports whether a self-test made the socket, this process's or another's.
func (s *Sock) OfSelfTest() bool {
	return s.Local[12] == 127 && (ofSelfTest(&s.Local) || ofSelfTest(&s.Peer))
}

// ofSelfTest is SelfTestRange for an address of a record; IPv4 stands v4-mapped there.
func ofSelfTest(a *[16]byte) bool {
	return a[12] == 127 && a[13] == 109 && a[14] == 104 && a[11] == 0xff && a[10] == 0xff
}
