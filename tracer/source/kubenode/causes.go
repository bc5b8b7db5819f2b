package kubenode

import (
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// causeOfTaint says what a taint's key tells of the node's fate. Keys of Kubernetes stand in k8s.io/api
// core/v1/well_known_taints.go and k8s.io/cloud-provider/api; the others in the code of those who set them.
var causeOfTaint = map[string]event.CauseKind{
	cordonTaint:                                 event.CauseCordoned,
	"node.kubernetes.io/unreachable":            event.CauseUnknown,
	"node.kubernetes.io/not-ready":              event.CauseNotReady,
	"node.kubernetes.io/out-of-service":         event.CauseOutOfService, // set by an operator: non-graceful shutdown
	"node.cloudprovider.kubernetes.io/shutdown": event.CauseShutdown,
	// cluster-autoscaler: the node is being removed, or is looked at as unneeded.
	"ToBeDeletedByClusterAutoscaler":       event.CauseScaleDown,
	"DeletionCandidateOfClusterAutoscaler": event.CauseScaleDownCandidate,
	// Karpenter, now and before v1.
	"karpenter.sh/disrupted":  event.CauseScaleDown,
	"karpenter.sh/disruption": event.CauseScaleDown,
	// GKE, on a preemption notice.
	"cloud.google.com/impending-node-termination": event.CausePreempted,
	// aws-node-termination-handler.
	"aws-node-termination-handler/spot-itn":                  event.CausePreempted,
	"aws-node-termination-handler/rebalance-recommendation":  event.CausePreemptionLikely,
	"aws-node-termination-handler/scheduled-maintenance":     event.CauseMaintenance,
	"aws-node-termination-handler/asg-lifecycle-termination": event.CauseScaleDown,
}

// excludeLabel takes a node out of every balancer that a cloud's controller runs, whatever its value.
const excludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers"

// causes lists what the object says of the node's fate. Each has the API's own time where the API keeps one.
func causes(o *Object) []event.Cause {
	var out []event.Cause
	add := func(what event.CauseKind, from string, at time.Time) {
		if !at.IsZero() {
			at = at.UTC()
		}
		for i := range out {
			if c := &out[i]; c.What == what {
				if c.Since.IsZero() {
					c.Since = at
				}
				return
			}
		}
		out = append(out, event.Cause{What: what, From: from, Since: at})
	}
	if at := o.Metadata.Deleted; at != nil {
		add(event.CauseDeleted, "metadata.deletionTimestamp", *at)
	}
	for _, c := range o.Status.Conditions {
		from := "condition " + c.Type + "=" + c.Status
		if c.Reason != "" {
			from += " (" + c.Reason + ")"
		}
		if what := causeOfCondition(&c); what != "" {
			add(what, from, c.Changed)
		}
	}
	for _, t := range o.Spec.Taints {
		what, ok := causeOfTaint[t.Key]
		if !ok || skipTaint(o, what) {
			continue
		}
		var at time.Time
		if t.Added != nil { // the API keeps it for NoExecute only
			at = *t.Added
		}
		add(what, "taint "+t.Key, at)
	}
	if o.Spec.Unschedulable {
		add(event.CauseCordoned, "spec.unschedulable", time.Time{})
	}
	if _, ok := o.Metadata.Labels[excludeLabel]; ok {
		add(event.CauseOutOfBalancer, "label "+excludeLabel, time.Time{})
	}
	if o.Metadata.Labels["cloud.google.com/active-node-maintenance"] == "ONGOING" {
		add(event.CauseMaintenance, "label cloud.google.com/active-node-maintenance", time.Time{})
	}
	return out
}

func causeOfCondition(c *Condition) event.CauseKind {
	switch {
	// The kubelet's graceful shutdown (pkg/kubelet/nodeshutdown, ShutdownStatus): what a preemption looks like from inside.
	case c.Type == "Ready" && c.Status == "False" && strings.Contains(c.Message, "node is shutting down"):
		return event.CauseShutdown
	case c.Type == "Ready" && c.Status == "False":
		return event.CauseNotReady
	case c.Type == "Ready" && c.Status == "Unknown":
		return event.CauseUnknown
	case c.Status != "True":
		return ""
	}
	// AKS: its node problem detector watches the machine's scheduled events. The plain condition also stands for reboots
	// and freezes; which of them it is stands in the reason.
	switch c.Type {
	case "PreemptScheduled":
		return event.CausePreempted
	case "TerminateScheduled":
		return event.CauseScaleDown
	case "VMEventScheduled", "RebootScheduled", "RedeployScheduled", "FreezeScheduled":
		if strings.Contains(c.Reason, "Preempt") {
			return event.CausePreempted
		}
		return event.CauseMaintenance
	}
	return ""
}

// skipTaint says whether a taint only repeats, late, what the Ready condition denies by now: the controller takes it away
// moments after the node is ready again.
func skipTaint(o *Object, what event.CauseKind) bool {
	if what != event.CauseUnknown && what != event.CauseNotReady {
		return false
	}
	for _, c := range o.Status.Conditions {
		if c.Type == "Ready" {
			return true // the condition itself was taken up, whatever it says
		}
	}
	return false
}
