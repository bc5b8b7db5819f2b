package kube

import (
	"errors"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/kubenode"
)

// nodeState is all that is known of one node, from several resources.
type nodeState struct {
	node   event.Node      // what the Node object says, its causes dated
	there  bool            // the object exists
	beside kubenode.Beside // what CiliumNode says
	past   []event.Cause   // what happened to it under our eyes: rebooted, recreated
	lease  *event.Cause
	drain  time.Time // its first pod was evicted
	told   event.Node
}

type nodeKeeper struct{ s *Source }

func (k nodeKeeper) key(obj any) any {
	switch o := obj.(type) {
	case *event.Node:
		return o.Name
	case *corev1.Node:
		return o.Name
	}
	return nil
}

func (k nodeKeeper) keys() (all []any) {
	for name, n := range k.s.nodes {
		if n.there {
			all = append(all, name)
		}
	}
	return all
}

// read implements keeper.
func (k nodeKeeper) read(obj any) any {
	o, ok := obj.(*corev1.Node)
	if !ok {
		return obj
	}
	n, err := objectOf(o).Node()
	var wrong *kubenode.FieldError
	if errors.As(err, &wrong) {
		k.s.opts.Log.Warn("a field of a Node cannot be used", "node", o.Name, "field", wrong.Field, "error", wrong.Err)
	}
	return &n
}

// objectOf takes over the fields that are read of a Node.
func objectOf(n *corev1.Node) *kubenode.Object {
	o := &kubenode.Object{
		Metadata: kubenode.Metadata{
			Name: n.Name, UID: string(n.UID), Created: n.CreationTimestamp.Time, Labels: n.Labels, Annotations: n.Annotations,
		},
		Spec: kubenode.Spec{
			PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs, ProviderID: n.Spec.ProviderID, Unschedulable: n.Spec.Unschedulable,
		},
		Status: kubenode.Status{NodeInfo: kubenode.NodeInfo{
			BootID: n.Status.NodeInfo.BootID, KubeletVersion: n.Status.NodeInfo.KubeletVersion, OS: n.Status.NodeInfo.OperatingSystem,
		}},
	}
	if d := n.DeletionTimestamp; d != nil {
		o.Metadata.Deleted = &d.Time
	}
	for _, t := range n.Spec.Taints {
		taint := kubenode.Taint{Key: t.Key, Value: t.Value, Effect: string(t.Effect)}
		if t.TimeAdded != nil {
			taint.Added = &t.TimeAdded.Time
		}
		o.Spec.Taints = append(o.Spec.Taints, taint)
	}
	for _, a := range n.Status.Addresses {
		o.Status.Addresses = append(o.Status.Addresses, kubenode.StatusAddress{Type: string(a.Type), Address: a.Address})
	}
	for _, c := range n.Status.Conditions {
		o.Status.Conditions = append(o.Status.Conditions, kubenode.Condition{
			Type: string(c.Type), Status: string(c.Status), Reason: c.Reason, Message: c.Message, Changed: c.LastTransitionTime.Time,
		})
	}
	return o
}

// checkName warns where the node that pods are asked for is none of the cluster: they would be nameless, silently.
func (s *Source) checkName() {
	if n := s.nodes[s.opts.Node]; s.opts.Node == "" || n != nil && n.there {
		return
	}
	remedy := "--node NAME, or MIDHOP_NODE"
	var nodes []event.Node
	for _, n := range s.nodes {
		if n.there {
			nodes = append(nodes, n.node)
		}
	}
	if own, why := kubenode.Which(nodes, s.opts.Node, s.opts.Addresses); own != "" {
		remedy = "--node " + own + " (" + why + "), or MIDHOP_NODE"
	}
	s.opts.Log.Warn("this machine is no node of the cluster by this name: pods on it will have no names", "node", s.opts.Node, "remedy", remedy)
}

func (s *Source) node(name string) *nodeState {
	n := s.nodes[name]
	if n == nil {
		n = &nodeState{}
		s.nodes[name] = n
	}
	return n
}

// put implements keeper.
func (k nodeKeeper) put(b *batch, _, record any) {
	now := *record.(*event.Node)
	n := k.s.node(now.Name)
	before := n.node
	switch {
	case !n.there: // met now: what it already is has no time but the API's
		if uid := k.s.graves[now.Name]; uid != "" && uid != now.UID {
			n.past = []event.Cause{recreated(&now)}
		}
		delete(k.s.graves, now.Name)
	case before.UID != now.UID:
		k.remove(b, n, recreated(&now))
		n.past = []event.Cause{recreated(&now)}
		before = event.Node{}
	case before.BootID != "" && now.BootID != "" && before.BootID != now.BootID:
		n.past = replace(n.past, event.Cause{What: event.CauseRebooted, From: "status.nodeInfo.bootID", Since: b.now})
	}
	for i := range now.Causes {
		c := &now.Causes[i]
		if !c.Since.IsZero() || !n.there {
			continue
		}
		c.Since = b.now
		if j := slices.IndexFunc(before.Causes, func(o event.Cause) bool { return o.What == c.What }); j >= 0 {
			c.Since = before.Causes[j].Since
		}
	}
	if !has(now.Causes, event.CauseCordoned) {
		n.drain = time.Time{}
	}
	n.node = now
	n.there = true
	k.s.tellNode(b, n)
}

// remove tells that a node is gone, with all that was known of it: who asks why needs it afterwards. why comes on top.
func (k nodeKeeper) remove(b *batch, n *nodeState, why event.Cause) {
	gone := n.whole()
	gone.Causes = replace(gone.Causes, why)
	b.add(event.NodeChanged, &event.NodeFact{What: "removed", Node: gone})
	*n = nodeState{beside: n.beside}
	k.s.claims.Drop(gone.Name)
}

// recreated is what is told of a machine that has another's name.
func recreated(now *event.Node) event.Cause {
	return event.Cause{What: event.CauseRecreated, From: "metadata.uid", Since: now.Created}
}

// maxGraves bounds the memory of deleted nodes: autoscalers give names that never come again.
const maxGraves = 4096

// drop implements keeper.
func (k nodeKeeper) drop(b *batch, key any) {
	n := k.s.nodes[key.(string)]
	if n == nil || !n.there {
		return
	}
	if len(k.s.graves) >= maxGraves {
		clear(k.s.graves)
	}
	k.s.graves[key.(string)] = n.node.UID
	k.remove(b, n, event.Cause{What: event.CauseDeleted, From: "the Node object is gone", Since: b.now})
	if n.beside.Empty() {
		delete(k.s.nodes, key.(string))
	}
}

func (k nodeKeeper) settle(*batch) {}

// whole joins what the resources say of a node.
func (n *nodeState) whole() event.Node {
	w := n.node
	n.beside.Add(&w)
	w.Causes = append(slices.Clone(n.past), w.Causes...)
	if n.lease != nil {
		w.Causes = append(w.Causes, *n.lease)
	}
	if !n.drain.IsZero() && has(w.Causes, event.CauseCordoned) {
		w.Causes = append(w.Causes, event.Cause{What: event.CauseDraining, From: "pod condition DisruptionTarget (EvictionByEvictionAPI)", Since: n.drain})
	}
	return w
}

// tellNode tells a node if anything about it has changed: a kubelet's status is written every few minutes and mostly says
// the same.
func (s *Source) tellNode(b *batch, n *nodeState) {
	if !n.there {
		return
	}
	w := n.whole()
	what := "changed"
	switch {
	case n.told.Name == "":
		what = "added"
	case reflect.DeepEqual(w, n.told):
		return
	case n.told.BootID != "" && w.BootID != n.told.BootID:
		what = "rebooted"
	}
	n.told = w
	for _, clash := range s.claims.Take(&w) {
		s.opts.Log.Warn(clash)
	}
	b.add(event.NodeChanged, &event.NodeFact{What: what, Node: w})
}

func has(list []event.Cause, what event.CauseKind) bool {
	return slices.ContainsFunc(list, func(c event.Cause) bool { return c.What == what })
}

// replace puts a cause in the place of an older one of its kind.
func replace(list []event.Cause, c event.Cause) []event.Cause {
	list = slices.DeleteFunc(slices.Clone(list), func(o event.Cause) bool { return o.What == c.What })
	return append(list, c)
}

type ciliumKeeper struct{ s *Source }

// beside is what is kept of a CiliumNode.
type beside struct {
	node string
	says kubenode.Beside
}

func (k ciliumKeeper) key(obj any) any {
	switch o := obj.(type) {
	case *beside:
		return o.node
	case *CiliumNode:
		return o.Name
	}
	return nil
}

func (k ciliumKeeper) keys() (all []any) {
	for name, n := range k.s.nodes {
		if !n.beside.Empty() {
			all = append(all, name)
		}
	}
	return all
}

func (k ciliumKeeper) read(obj any) any {
	if o, ok := obj.(*CiliumNode); ok {
		return &beside{o.Name, kubenode.Cilium(o.Spec.Addresses, o.Spec.IPAM.PodCIDRs)}
	}
	return obj
}

func (k ciliumKeeper) put(b *batch, key, record any) {
	n := k.s.node(key.(string))
	n.beside = record.(*beside).says
	k.s.tellNode(b, n)
}

func (k ciliumKeeper) drop(b *batch, key any) {
	n := k.s.nodes[key.(string)]
	if n == nil {
		return
	}
	n.beside = kubenode.Beside{}
	if !n.there {
		delete(k.s.nodes, key.(string))
		return
	}
	k.s.tellNode(b, n)
}

func (k ciliumKeeper) settle(*batch) {}
