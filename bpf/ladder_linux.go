package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// hook is one program and the place of the kernel that it stands at.
type hook struct {
	program string
	kprobe  string // function whose entry it takes; empty: the place stands in the program itself
	multi   bool   // by a link of BPF's own, not by a perf event
	rawTP   string // raw tracepoint; empty likewise
	lacking bool   // the rung serves without it: the kernel may have been built without that place
	index   uint32 // enum hook of event.h
}

// rung is one way to obtain a fact: hooks of one object, all of which are needed.
type rung struct {
	name   string
	object object
	hooks  []hook
	coarse bool                             // something is missed, or told late
	trial  string                           // a small program that loads where the rung's do, and is refused at no cost; empty: none
	fits   func(kernel *btf.Spec) error     // why this kernel cannot have the rung though it would load; nil: it can
	adjust func(*ebpf.CollectionSpec) error // nil: nothing to set
}

// object is a compiled family of programs.
type object struct {
	name string
	load func() (*ebpf.CollectionSpec, error)
}

// typed says whether its programs know sockets by type, and can mark one so that it is found again.
func (o object) typed() bool { return o.name == objectTCP.name || o.name == objectProbe.name }

var (
	objectTCP    = object{"tcp", loadTcp}
	objectRawTCP = object{"rawtcp", loadRawtcp}
	objectProbe  = object{"probe", loadProbe}
	objectCensus = object{"census", loadCensus}
	objectMarked = object{"troubled", loadTroubled}
	objectMarks  = object{"marks", loadMarks}
	objectNAT    = object{"nat", loadNat}
	objectReset  = object{"reset", loadReset}
	objectKprobe = object{"kprobe", loadKprobe}
)

// Indexes of the map hook_ran (enum hook of event.h).
const (
	hookRetransmit uint32 = iota
	hookError
	hookReset
	hookState
	hookProbe
	hookResetSent
	hookNATCreated
	hookNATDestroyed
)

// Ways to obtain a fact that other packages offer. They stand at the foot of a ladder, and may be asked for by name.
const (
	RungCensus    = "census"    // FactProbe, FactRecovery: the socket's own counters, when it is looked at
	RungCtnetlink = "ctnetlink" // FactNAT: the kernel's announcements of conntrack entries
)

// ladder is the rungs of a fact from the best one down; foot is the one that another package offers.
type ladder struct {
	fact  Fact
	rungs []rung
	foot  string
}

// ladders are all that can be asked of the kernel, in the order of a Report.
func ladders(natNetns uint32) []ladder {
	tracepoint := func(program, name string, index uint32) []rung {
		return []rung{
			{name: "tp_btf", object: objectTCP, hooks: []hook{{program: program, index: index}}},
			{name: "raw_tp", object: objectRawTCP, hooks: []hook{{program: program, rawTP: name, index: index}}},
		}
	}
	natSpace := func(spec *ebpf.CollectionSpec) error {
		if err := spec.Variables[natVarNatNetns].Set(natNetns); err != nil {
			return fmt.Errorf("set the namespace: %w", err)
		}
		return nil
	}
	wakeup := []hook{{program: kprobeProgTcpWriteWakeupEntry, kprobe: "tcp_write_wakeup", index: hookProbe}}
	entries := []hook{
		{program: kprobeProgNatConfirmEntry, kprobe: "__nf_conntrack_confirm", index: hookNATCreated},
		{program: kprobeProgNatDeleteEntry, kprobe: "nf_ct_delete", index: hookNATDestroyed},
	}
	entriesBefore517 := []hook{entries[0], {program: kprobeProgNatDestroyEntry, kprobe: "nf_conntrack_destroy", index: hookNATDestroyed}}
	resets := []hook{
		{program: kprobeProgResetV4Entry, kprobe: "tcp_v4_send_reset", index: hookResetSent},
		{program: kprobeProgResetV6Entry, kprobe: "tcp_v6_send_reset", index: hookResetSent, lacking: true},
	}
	return []ladder{
		{fact: FactRetransmit, rungs: tracepoint(tcpProgTcpRetransmitSkb, "tcp_retransmit_skb", hookRetransmit)},
		{fact: FactError, rungs: append(tracepoint(tcpProgInetSkErrorReport, "inet_sk_error_report", hookError), rung{
			name: "state", object: objectRawTCP, coarse: true,
			hooks: []hook{{program: rawtcpProgClosedWithError, rawTP: "inet_sock_set_state", index: hookError}},
		})},
		{fact: FactReset, rungs: tracepoint(tcpProgTcpReceiveReset, "tcp_receive_reset", hookReset)},
		{fact: FactState, rungs: tracepoint(tcpProgInetSockSetState, "inet_sock_set_state", hookState)},
		{fact: FactProbe, foot: RungCensus, rungs: append([]rung{
			{name: "fentry", object: objectProbe, fits: endsWithItsNamespace, hooks: []hook{{program: probeProgTcpWriteWakeup, index: hookProbe}}},
		}, kprobes(wakeup, knownRegisters, nil)...)},
		{fact: FactSockets, rungs: []rung{
			{name: "task_file", object: objectCensus, trial: censusProgSocketsTrusted, hooks: []hook{{program: censusProgSockets}}},
			{name: "task_file.cast", object: objectCensus, fits: castsPointers, hooks: []hook{{program: censusProgSocketsCast}}},
			{name: "sockfs", object: objectCensus, hooks: []hook{{program: censusProgSocketsByMagic}}},
		}},
		{fact: FactNAT, foot: RungCtnetlink, rungs: append([]rung{
			{name: "fexit", object: objectNAT, fits: endsWithItsNamespace, adjust: natSpace, hooks: []hook{
				{program: natProgNatCreated, index: hookNATCreated},
				{program: natProgNatDestroyed, index: hookNATDestroyed},
			}},
		}, append(kprobes(entries, allOf(knownRegisters, deletesEntries), natSpace),
			kprobes(entriesBefore517, allOf(knownRegisters, not(deletesEntries)), natSpace)...)...)},
		{fact: FactRecovery, foot: RungCensus, rungs: []rung{
			{name: "sk_storage", object: objectMarked, hooks: []hook{{program: troubledProgTroubledSockets}}},
			{name: listedRung, object: objectMarks, fits: castsPointers, hooks: []hook{{program: marksProgLookAtMarked}}},
		}},
		{fact: FactResetSent, rungs: append([]rung{
			{name: "raw_tp", object: objectReset, fits: tellsWithoutSocket, hooks: []hook{
				{program: resetProgTcpSendReset, rawTP: "tcp_send_reset", index: hookResetSent},
			}},
		}, kprobes(resets, knownRegisters, nil)...)},
	}
}

// kprobes are the two ways to a function's entry without its types: a perf event, which takes CAP_SYS_ADMIN where a
// distribution's perf_event_paranoid is above 2, and since 5.18 a link of BPF's own, where the kernel has fprobes.
func kprobes(hooks []hook, fits func(*btf.Spec) error, adjust func(*ebpf.CollectionSpec) error) []rung {
	multi := make([]hook, len(hooks))
	for i, h := range hooks {
		h.multi = true
		multi[i] = h
	}
	return []rung{
		{name: "kprobe", object: objectKprobe, hooks: hooks, fits: allOf(hasKprobes, fits), adjust: adjust},
		{name: "kprobe.multi", object: objectKprobe, hooks: multi, fits: allOf(hasFprobes, fits), adjust: func(spec *ebpf.CollectionSpec) error {
			for _, p := range spec.Programs {
				p.AttachType = ebpf.AttachTraceKprobeMulti
			}
			if adjust == nil {
				return nil
			}
			return adjust(spec)
		}},
	}
}

// Rungs returns the names of the rungs of a fact that this machine's architecture can have at all, from the best one
// down, the foot of its ladder last.
func Rungs(fact Fact) []string {
	var names []string
	for _, l := range ladders(0) {
		if l.fact != fact {
			continue
		}
		for _, r := range l.rungs {
			if !slices.Contains(names, r.name) {
				names = append(names, r.name)
			}
		}
		if l.foot != "" {
			names = append(names, l.foot)
		}
	}
	return names
}

// Facts returns all facts, in the order of a Report.
func Facts() []Fact {
	var all []Fact
	for _, l := range ladders(0) {
		all = append(all, l.fact)
	}
	return all
}

// ParseRungs reads "nat=kprobe,probe=census": which rung is to serve each of some facts, and no other.
func ParseRungs(text string) (map[Fact]string, error) {
	forced := make(map[Fact]string)
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		fact, name, _ := strings.Cut(word, "=")
		known := Rungs(Fact(fact))
		if known == nil {
			return nil, fmt.Errorf("no fact %q: there are %v", fact, Facts())
		}
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("fact %s has no rung %q: there are %s", fact, name, strings.Join(known, ", "))
		}
		forced[Fact(fact)] = name
	}
	return forced, nil
}

// initPIDNamespace is PROC_PID_INIT_INO (include/linux/proc_ns.h): the first pid namespace has it on every machine.
const initPIDNamespace = 0xEFFFFFFC

// endsWithItsNamespace: before 6.9, taking a trampoline down waits for all tasks (synchronize_rcu_tasks), and tasks of a pid
// namespace that ends wait for the one that takes it down (zap_pid_ns_processes): where a process with a trampoline dies
// together with its pid namespace, both wait for ever, and all tracing of the machine with them.
func endsWithItsNamespace(*btf.Spec) error {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err == nil && st.Ino == initPIDNamespace {
		return nil
	}
	if major, minor := release(); major < 6 || major == 6 && minor < 9 {
		return errors.New("before Linux 6.9 a trampoline must not end together with its pid namespace, and this one is not the machine's own")
	}
	return nil
}

// release returns the first two numbers of the kernel's version, 0 where it has another form.
func release() (major, minor int) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	}
	return major, minor
}

// kprobeSource is there where the kernel offers kprobes to perf_event_open.
const kprobeSource = "/sys/bus/event_source/devices/kprobe"

func hasKprobes(*btf.Spec) error {
	if _, err := os.Stat(kprobeSource); err != nil {
		return fmt.Errorf("%w: CONFIG_KPROBE_EVENTS is needed, and /sys mounted", ErrNoKprobes)
	}
	return nil
}

// hasFprobes: the link's own struct is compiled with CONFIG_FPROBE only (kernel/trace/bpf_trace.c).
func hasFprobes(kernel *btf.Spec) error {
	var s *btf.Struct
	if err := kernel.TypeByName("bpf_kprobe_multi_link", &s); err != nil {
		return fmt.Errorf("%w: Linux 5.18 with CONFIG_FPROBE is needed", ErrNoKprobes)
	}
	return nil
}

// knownRegisters: a kprobe finds its function's arguments in the registers of these machines (first_arg in compat.h).
func knownRegisters(*btf.Spec) error {
	if machines := []string{"amd64", "arm64"}; !slices.Contains(machines, runtime.GOARCH) {
		return fmt.Errorf("where a function's arguments stand is not known for %s", runtime.GOARCH)
	}
	return nil
}

// deletesEntries: since 5.17 (and where a distribution has taken that over) nf_ct_put calls nf_ct_destroy itself, and every
// confirmed entry goes through nf_ct_delete as a function of its own. Before, compilers split that one, and
// nf_conntrack_destroy was called for every entry. Types do not show it, as modules may have none.
func deletesEntries(*btf.Spec) error {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return fmt.Errorf("which functions conntrack has: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "nf_ct_destroy" {
			return nil
		}
	}
	return errors.New("a kernel before 5.17 splits nf_ct_delete")
}

// tellsWithoutSocket: since 6.10 the tracepoint tcp_send_reset is passed without a socket too, and has a reason.
func tellsWithoutSocket(kernel *btf.Spec) error {
	var t *btf.Typedef
	if err := kernel.TypeByName("btf_trace_tcp_send_reset", &t); err != nil {
		return fmt.Errorf("this kernel has no tracepoint tcp_send_reset: %w", err)
	}
	if p, ok := btf.UnderlyingType(t).(*btf.Pointer); ok {
		if f, ok := p.Target.(*btf.FuncProto); ok && len(f.Params) >= 4 { // the first is the probe's own
			return nil
		}
	}
	return errors.New("before Linux 6.10 the tracepoint is not passed where there is no socket")
}

// castsPointers: since 6.2 a program may read by its type what the verifier does not trust.
func castsPointers(kernel *btf.Spec) error {
	var f *btf.Func
	if err := kernel.TypeByName("bpf_rdonly_cast", &f); err != nil {
		return fmt.Errorf("before Linux 6.2 there is no bpf_rdonly_cast: %w", err)
	}
	return nil
}

func allOf(conditions ...func(*btf.Spec) error) func(*btf.Spec) error {
	return func(kernel *btf.Spec) error {
		for _, c := range conditions {
			if err := c(kernel); err != nil {
				return err
			}
		}
		return nil
	}
}

func not(condition func(*btf.Spec) error) func(*btf.Spec) error {
	return func(kernel *btf.Spec) error {
		if condition(kernel) == nil {
			return errOtherHook
		}
		return nil
	}
}
