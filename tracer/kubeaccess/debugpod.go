package kubeaccess

import (
	"crypto/rand"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Container is the name of the one container of a debug pod.
const Container = "midhop"

// Labels of everything that a run makes, so that it can be found and removed by hand.
const (
	labelName      = "app.kubernetes.io/name"
	labelComponent = "app.kubernetes.io/component"
	labelRun       = "midhop.dev/probe"
)

// DebugRun is what is started for one `midhop probe`: a pod on each of some nodes, and what removes them should this process
// not live to do it.
type DebugRun struct {
	ID        string // of this run, in all names
	Namespace string
	Image     string
	Args      func(node string) []string
	Nodes     []string
	Deadline  time.Duration // after which the kubelet ends the pods, and the cluster removes them
	Capable   []string      // Linux capabilities of the container; every other one is dropped
}

// NewRunID returns a name for a run that no other has: 5 letters, without vowels so that they spell nothing.
func NewRunID() string {
	const letters = "bcdfghjkmnpqrstvwxz2456789"
	b := make([]byte, 5)
	_, _ = rand.Read(b) // it never fails
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b)
}

// Selector selects everything that the run makes.
func (r *DebugRun) Selector() string { return labelRun + "=" + r.ID }

func (r *DebugRun) labels() map[string]string {
	return map[string]string{labelName: "midhop", labelComponent: "probe", labelRun: r.ID}
}

// maxPodName is how long the name of a pod may be without being cut for its host name.
const maxPodName = 63

// PodName is the name of the pod on a node. It is made here and not by the API server: an answer that is lost must not cost
// the name by which the pod is removed.
func (r *DebugRun) PodName(node string) string {
	name := "midhop-probe-" + r.ID + "-" + strings.ReplaceAll(node, ".", "-")
	if len(name) > maxPodName {
		h := fnv.New32a()
		h.Write([]byte(node))
		sum := fmt.Sprintf("%08x", h.Sum32()) // names of nodes may differ in what is cut off
		name = name[:maxPodName-1-len(sum)] + "-" + sum
	}
	return name
}

// KeeperName is the name of the Job of [DebugRun.Keeper].
func (r *DebugRun) KeeperName() string { return "midhop-probe-" + r.ID }

// Pod returns the pod for a node. owner may be empty.
//
// It is bound to its node without asking the scheduler, and tolerates every taint: the nodes of interest are the full, the
// cordoned and the dying ones. It waits on its standard input, which is attached to once; when that ends, for whatever
// reason, the program in it ends too.
func (r *DebugRun) Pod(node string, owner string) *corev1.Pod {
	deadline, grace := int64(r.Deadline/time.Second), int64(5)
	no, yes, root := false, true, int64(0)
	capable := make([]corev1.Capability, len(r.Capable))
	for i, c := range r.Capable {
		capable[i] = corev1.Capability(c)
	}
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: r.PodName(node), Namespace: r.Namespace, Labels: r.labels()},
		Spec: corev1.PodSpec{
			NodeName:                      node,
			HostNetwork:                   true, // the node's conntrack table and addresses
			HostPID:                       true, // the census walks the sockets of all processes of its PID namespace
			RestartPolicy:                 corev1.RestartPolicyNever,
			ActiveDeadlineSeconds:         &deadline,
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  &no, // it asks the Kubernetes API nothing
			EnableServiceLinks:            &no,
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			SecurityContext:               &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: Container, Image: r.Image, Args: r.Args(node), Stdin: true, StdinOnce: true,
				SecurityContext: &corev1.SecurityContext{
					RunAsUser: &root, RunAsGroup: &root, Privileged: &no, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: capable},
				},
				Resources: corev1.ResourceRequirements{ // the agent's, with little asked for: the kubelet of a full node refuses more
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
					Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
				},
			}},
		},
	}
	if owner != "" {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: r.KeeperName(), UID: types.UID(owner)}}
	}
	return p
}

// keeperSlack is how long after the pods their keeper goes.
const keeperSlack = time.Minute

// Keeper returns a Job that runs nothing and owns the pods. It is complete as soon as it is there, since nothing is to be
// completed; the cluster removes it, and with it what it owns, when its time is up. So nothing is left behind by a process
// that was killed, or by a machine that has lost power.
func (r *DebugRun) Keeper() *batchv1.Job {
	none, ttl := int32(0), int32((r.Deadline+keeperSlack)/time.Second)
	no, yes, nobody := false, true, int64(65534)
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: r.KeeperName(), Namespace: r.Namespace, Labels: r.labels()},
		Spec: batchv1.JobSpec{
			Completions: &none, Parallelism: &none, TTLSecondsAfterFinished: &ttl,
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: r.labels()},
				Spec: corev1.PodSpec{
					RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: &no,
					Containers: []corev1.Container{{
						Name: "never-run", Image: r.Image, Args: []string{"version"},
						SecurityContext: &corev1.SecurityContext{
							RunAsNonRoot: &yes, RunAsUser: &nobody, AllowPrivilegeEscalation: &no,
							Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
							SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
						},
					}},
				},
			},
		},
	}
}
