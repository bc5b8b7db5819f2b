package world

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Parse reads a plan, one statement a line; lines that begin with # are comments:
//
//	seed N
//	until D
//	family 4|6
//	inventory file|api|none [delay=D]
//	node NAME IP PODS [zone=Z] [agent=best|census|bare] [pace=D] [late=D] [skew=D] [attach=D] [direct] [max=N] [drops]
//	pod NAMESPACE/NAME NODE IP
//	service NAMESPACE/NAME TYPE IP PORT [nodeport=N] [vip=IP] [entries=NODE,...] [idle=D] backends=POD,...
//	clients NAME NET [latency=D]
//	load N KIND FROM TO [via=NODE] [talk=N] [every=D] [size=N] [speaks=WHO] [keepalive=TIME,INTERVAL,PROBES] [user=D]
//	     [retries=N] [life=D] [starts=D]
//	fault AT WHAT [WHO] [with=X] [n=N] [for=D]
//
// Objects are named after they are declared; anything else is an error with the line's number.
func Parse(text string) (*Plan, error) {
	p := &Plan{Family: 4, Inventory: Inventory{By: "none"}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		s := statement{fields: f[1:]}
		s.read(p, f[0])
		if s.err != nil {
			return nil, fmt.Errorf("line %d: %w", n, s.err)
		}
	}
	return p, p.check()
}

// statement takes the words of a line one after another; the first error stays.
type statement struct {
	fields []string
	err    error
}

func (s *statement) fail(format string, a ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, a...)
	}
}

// word takes the next field that is no option.
func (s *statement) word(what string) string {
	if len(s.fields) == 0 {
		s.fail("%s is missing", what)
		return ""
	}
	w := s.fields[0]
	s.fields = s.fields[1:]
	return w
}

func (s *statement) ip(what string) netip.Addr { return parsed(s, what, s.word(what), netip.ParseAddr) }
func (s *statement) net(what string) netip.Prefix {
	return parsed(s, what, s.word(what), netip.ParsePrefix)
}
func (s *statement) number(what string) int { return parsed(s, what, s.word(what), strconv.Atoi) }
func (s *statement) duration(what string) time.Duration {
	return parsed(s, what, s.word(what), time.ParseDuration)
}

func parsed[T any](s *statement, what, text string, f func(string) (T, error)) T {
	v, err := f(text)
	if err != nil {
		s.fail("%s: %w", what, err)
	}
	return v
}

// option takes an option out of the rest of the line.
func (s *statement) option(name string) (string, bool) {
	for i, f := range s.fields {
		if v, ok := strings.CutPrefix(f, name+"="); ok || f == name {
			s.fields = slices.Delete(slices.Clone(s.fields), i, i+1)
			return v, true
		}
	}
	return "", false
}

func option[T any](s *statement, name string, f func(string) (T, error)) T {
	v, ok := s.option(name)
	if !ok {
		var zero T
		return zero
	}
	return parsed(s, name, v, f)
}

func (s *statement) text(name string) string { v, _ := s.option(name); return v }
func (s *statement) flag(name string) bool   { _, ok := s.option(name); return ok }
func (s *statement) list(name string) []string {
	if v := s.text(name); v != "" {
		return strings.Split(v, ",")
	}
	return nil
}

func (s *statement) read(p *Plan, verb string) {
	switch verb {
	case "seed":
		p.Seed = parsed(s, "seed", s.word("seed"), func(t string) (uint64, error) { return strconv.ParseUint(t, 10, 64) })
	case "until":
		p.Until = s.duration("until")
	case "family":
		p.Family = s.number("family")
	case "inventory":
		p.Inventory = Inventory{By: s.word("who"), Delay: option(s, "delay", time.ParseDuration)}
	case "node":
		p.Nodes = append(p.Nodes, s.node())
	case "pod":
		p.Pods = append(p.Pods, Pod{Name: s.word("name"), Node: s.word("node"), IP: s.ip("address")})
	case "service":
		p.Services = append(p.Services, s.service())
	case "clients":
		p.Clients = append(p.Clients, Clients{Name: s.word("name"), Net: s.net("network"), Latency: option(s, "latency", time.ParseDuration)})
	case "load":
		p.Loads = append(p.Loads, s.load())
	case "fault":
		f := Fault{At: s.duration("time"), What: s.word("what")}
		f.With, f.N, f.For = s.text("with"), option(s, "n", strconv.Atoi), option(s, "for", time.ParseDuration)
		if len(s.fields) > 0 {
			f.Who = s.word("who")
		}
		p.Faults = append(p.Faults, f)
	default:
		s.fail("unknown statement %q", verb)
	}
	if len(s.fields) > 0 {
		s.fail("%q is not understood", s.fields[0])
	}
}

func (s *statement) node() Node {
	n := Node{Name: s.word("name"), IP: s.ip("address"), Pods: s.net("range of pods"), Zone: s.text("zone")}
	if n.Rung, n.Agent = s.option("agent"); n.Rung == "agent" {
		n.Rung = "census"
	}
	n.Pace, n.Late = option(s, "pace", time.ParseDuration), option(s, "late", time.ParseDuration)
	n.Skew, n.Attach = option(s, "skew", time.ParseDuration), option(s, "attach", time.ParseDuration)
	n.Direct, n.Drops, n.Max = s.flag("direct"), s.flag("drops"), option(s, "max", strconv.Atoi)
	return n
}

func (s *statement) service() Service {
	v := Service{Name: s.word("name"), Type: s.word("type"), IP: s.ip("address"), Port: uint16(s.number("port"))}
	v.NodePort, v.Entries, v.Backends = uint16(option(s, "nodeport", strconv.Atoi)), s.list("entries"), s.list("backends")
	v.Idle, v.VIP = option(s, "idle", time.ParseDuration), option(s, "vip", netip.ParseAddr)
	return v
}

func (s *statement) load() Load {
	l := Load{N: s.number("number"), Kind: s.word("kind"), From: s.word("from"), To: s.word("to"), Via: s.text("via"), Speaks: s.text("speaks")}
	l.Talkers, l.Size, l.Retries = option(s, "talk", strconv.Atoi), option(s, "size", strconv.Atoi), option(s, "retries", strconv.Atoi)
	l.Every, l.User = option(s, "every", time.ParseDuration), option(s, "user", time.ParseDuration)
	l.Life, l.Starts = option(s, "life", time.ParseDuration), option(s, "starts", time.ParseDuration)
	if k := s.list("keepalive"); len(k) == 3 {
		l.Keepalive = parsed(s, "keepalive", k[0], time.ParseDuration)
		l.Interval = parsed(s, "keepalive", k[1], time.ParseDuration)
		l.Probes = parsed(s, "keepalive", k[2], strconv.Atoi)
	} else if k != nil {
		s.fail("keepalive wants TIME,INTERVAL,PROBES")
	}
	return l
}

// String writes the plan as [Parse] reads it.
func (p *Plan) String() string {
	w := &writer{}
	w.line("seed", p.Seed)
	w.line("until", p.Until)
	if p.Family == 6 {
		w.line("family", 6)
	}
	w.add("inventory", p.Inventory.By).opt("delay", p.Inventory.Delay).end()
	for _, n := range p.Nodes {
		w.add("node", n.Name, n.IP, n.Pods).opt("zone", n.Zone)
		if n.Agent {
			w.opt("agent", n.Rung).opt("pace", n.Pace).opt("late", n.Late).opt("skew", n.Skew).opt("attach", n.Attach).flag("direct", n.Direct)
		}
		w.opt("max", n.Max).flag("drops", n.Drops).end()
	}
	for _, o := range p.Pods {
		w.line("pod", o.Name, o.Node, o.IP)
	}
	for _, s := range p.Services {
		w.add("service", s.Name, s.Type, s.IP, s.Port).opt("nodeport", s.NodePort)
		if s.VIP.IsValid() {
			w.opt("vip", s.VIP)
		}
		w.opt("entries", strings.Join(s.Entries, ",")).opt("idle", s.Idle).opt("backends", strings.Join(s.Backends, ",")).end()
	}
	for _, c := range p.Clients {
		w.add("clients", c.Name, c.Net).opt("latency", c.Latency).end()
	}
	for _, l := range p.Loads {
		w.add("load", l.N, l.Kind, l.From, l.To).opt("via", l.Via).opt("talk", l.Talkers).opt("every", l.Every).opt("size", l.Size)
		w.opt("speaks", l.Speaks)
		if l.Keepalive > 0 {
			w.opt("keepalive", fmt.Sprintf("%v,%v,%d", l.Keepalive, l.Interval, l.Probes))
		}
		w.opt("user", l.User).opt("retries", l.Retries).opt("life", l.Life).opt("starts", l.Starts).end()
	}
	for _, f := range p.Faults {
		w.add("fault", f.At, f.What)
		if f.Who != "" {
			w.add(f.Who)
		}
		w.opt("with", f.With).opt("n", f.N).opt("for", f.For).end()
	}
	return w.b.String()
}

type writer struct {
	b     strings.Builder
	begun bool
}

func (w *writer) add(words ...any) *writer {
	for _, x := range words {
		if w.begun {
			w.b.WriteByte(' ')
		}
		w.begun = true
		fmt.Fprint(&w.b, x)
	}
	return w
}

// opt writes an option that is not zero.
func (w *writer) opt(name string, v any) *writer {
	switch v {
	case "", 0, uint16(0), time.Duration(0):
		return w
	}
	return w.add(fmt.Sprintf("%s=%v", name, v))
}

func (w *writer) flag(name string, is bool) *writer {
	if is {
		w.add(name)
	}
	return w
}

func (w *writer) end() { w.b.WriteByte('\n'); w.begun = false }

func (w *writer) line(words ...any) { w.add(words...).end() }
