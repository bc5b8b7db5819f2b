package kubenode

import "testing"

// What stands in an annotation is anybody's text: no address that comes out of it is one that no node has.
func FuzzAddresses(f *testing.F) {
	for _, seed := range []string{
		`{"ipv4":"100.64.0.4/16"}`, `{"default":{"ipv4":"100.64.0.4/16","ipv6":"fd98::4/64"}}`, `["10.0.0.1/24","fe80::1%eth0"]`,
		"10.146.0.3/20", "10.0.0.1,10.0.0.2", `{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}`, "[[[[[[[[[[", `{"a":{"a":{"a":{"a":"127.0.0.1"}}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, ip := range addressesIn(text) {
			if !ip.IsValid() || ip.Zone() != "" || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || ip.Is4In6() {
				t.Errorf("%q gives %s", text, ip)
			}
		}
		if p, err := Prefix(text); err == nil && !p.IsValid() {
			t.Errorf("%q gives %s", text, p)
		}
	})
}
