//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The census: every open TCP socket of every process that the reader's pid namespace knows, in whatever network namespace
 * it lives. One row for each file that holds a socket, so a shared socket appears more than once. What is not the socket's
 * own but many sockets have in common comes before, in rows for itself.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "kernel.h"
#include "compat.h"
#include "event.h"
#include "sock.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

WIRE(socket_row);
WIRE(netns_row);
WIRE(cgroup_row);

/* The namespace that was written last: tasks and sockets of one namespace stand together. */
static __u32 newest_netns;

/* The cgroup of the process whose row was written last. */
static __u64 newest_cgroup;

/* The network namespace whose sockets' owners are told with their cgroups: others have addresses that tell them apart. */
volatile const __u32 own_netns;

/* How deep in a hierarchy an owner may be for all above it to be told. */
#define LEVELS 16

/* Subflows of one MPTCP connection that are read; the kernel's own limit of additional ones is 8 (MPTCP_SUBFLOWS_MAX). */
#define SUBFLOWS 9

/* Where a row goes, who holds the file, and which it is. Read once: the verifier forgets its checks of what is read again. */
struct holder {
	struct seq_file *seq;
	struct task_struct *task;
	__u32 inode;
};

/* How far the verifier lets a socket be read. */
enum reach {
	PROBED, /* each field takes a call */
	LOADED, /* fields are ordinary loads, and no helper takes the pointer */
	TRUSTED, /* helpers take it, so that a cookie can be made */
};

/*
 * Where the reader's buffer is full, the kernel drops what the file at hand has written and calls again for it: what was told
 * for all that follow has to be told again.
 */
static __always_inline void put(const struct holder *by, const void *row, __u32 len)
{
	if (!bpf_seq_write(by->seq, row, len))
		return;
	newest_netns = 0;
	newest_cgroup = 0;
}

/* Namespaces are told for themselves too: one may have processes and no socket, or only sockets that are closed. */
static __always_inline __u32 write_netns(const struct holder *by, const struct net *net, const bool typed)
{
	struct netns_row row = {};

	row.netns = GET(net, ns.inum);
	if (!row.netns || row.netns == newest_netns)
		return row.netns;
	newest_netns = row.netns;
	row.h.kind = KIND_NETNS;
	row.h.len = sizeof(row);
	row.h.cpu = bpf_get_smp_processor_id();
	row.h.ktime = bpf_ktime_get_ns();
	row.pid = by->task->tgid;
	put(by, &row, sizeof(row));
	return row.netns;
}

/* Writes an owner's cgroup and those above it: a process may be gone before a reader could ask where it was. */
static __always_inline void write_cgroups(const struct holder *by, struct cgroup *at)
{
	struct cgroup_row row = {};
	struct cgroup *parent;

	row.h.kind = KIND_CGROUP;
	row.h.len = sizeof(row);
	row.h.cpu = bpf_get_smp_processor_id();
	row.h.ktime = bpf_ktime_get_ns();
	row.id = cgroup_id(at, false);
	newest_cgroup = row.id;
	for (int i = 0; i < LEVELS && row.id; i++, row.id = row.parent, at = parent) {
		parent = (void *)BPF_CORE_READ(at, self.parent) - bpf_core_field_offset(struct cgroup, self);
		row.parent = BPF_CORE_READ(at, level) > 1 ? cgroup_id(parent, false) : 0;
		__builtin_memset(row.name, 0, sizeof(row.name));
		bpf_probe_read_kernel_str(row.name, sizeof(row.name), BPF_CORE_READ(at, kn, name));
		put(by, &row, sizeof(row));
	}
}

/* The same as a function: beside a call of bpf_loop the stack has no room for two kinds of rows. */
static __noinline void write_cgroups_apart(const struct holder *by, struct cgroup *at) { write_cgroups(by, at); }

static __always_inline void write_row(const struct holder *by, struct socket_row *row, const struct tcp_sock *tp,
				      const bool typed)
{
	struct task_struct *leader = by->task->group_leader;

	row->h.kind = KIND_SOCKET;
	row->h.len = sizeof(*row);
	row->h.cpu = bpf_get_smp_processor_id();
	row->h.ktime = bpf_ktime_get_ns();
	read_sock(&row->sock, tp, row->h.ktime, typed);
	row->isn = initial_sequence(tp, typed);
	row->pid = leader->tgid;
	bpf_probe_read_kernel_str(row->comm, sizeof(row->comm), leader->comm);
	put(by, row, sizeof(*row));
}

/*
 * An MPTCP socket holds no timers: its TCP sockets do, and these have no file. They are found by their list, so the verifier
 * does not trust the pointers and their cookie cannot be made here; it is 0 until a probe has met the socket.
 */
struct subflows {
	const struct holder *by;
	struct socket_row *row;
	struct list_head *head, *at;
};

static __always_inline long write_subflow(struct subflows *list)
{
	struct mptcp_subflow_context *subflow;
	struct list_head *at = list->at;
	struct tcp_sock *tp;

	if (!bpf_core_type_exists(struct mptcp_sock) || !at || at == list->head)
		return 1;
	subflow = (void *)at - bpf_core_field_offset(struct mptcp_subflow_context, node);
	tp = (struct tcp_sock *)BPF_CORE_READ(subflow, tcp_sock);
	list->row->sock.cookie = cookie_of((struct sock *)tp, false, false);
	write_row(list->by, list->row, tp, false);
	list->at = BPF_CORE_READ(at, next);
	return 0;
}

static long write_next_subflow(__u32 i, struct subflows *list) { return write_subflow(list); }

static __always_inline void write_subflows(const struct holder *by, struct socket_row *row, struct sock *sk,
					   const enum reach reach)
{
	struct mptcp_sock *msk = (void *)sk;
	struct list_head *head = &msk->conn_list;
	struct subflows list = {.by = by, .row = row, .head = head, .at = BPF_CORE_READ(head, next)};

	if (reach == LOADED) /* since 5.17: the verifier walks through it once, and not for each round */
		bpf_loop(SUBFLOWS, write_next_subflow, &list, 0);
	else
		for (int i = 0; i < SUBFLOWS; i++)
			if (write_subflow(&list))
				break;
}

/* Writes what stands behind an open socket. */
static __always_inline int write_socket(const struct holder *by, struct sock *sk, const enum reach reach)
{
	const bool typed = reach != PROBED;
	struct cgroup *cgroup;
	struct socket_row row;
	struct tcp_sock *tp;
	__u16 family;
	__u32 netns;

	if (!sk)
		return 0;
	family = GET(sk, __sk_common.skc_family);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	netns = write_netns(by, GET(sk, __sk_common.skc_net.net), typed);
	if (GET(sk, __sk_common.skc_state) == TCP_CLOSE) /* not connected yet, or no more */
		return 0;
	__builtin_memset(&row, 0, sizeof(row));
	cgroup = cgroup_of(by->task->group_leader);
	if (cgroup) {
		row.cgroup = cgroup_id(cgroup, true);
		if (netns == own_netns && row.cgroup != newest_cgroup) {
			if (reach == LOADED)
				write_cgroups_apart(by, cgroup);
			else
				write_cgroups(by, cgroup);
		}
	}
	if (GET(sk, sk_protocol) == IPPROTO_MPTCP) {
		if (bpf_core_type_exists(struct mptcp_sock))
			write_subflows(by, &row, sk, reach);
		return 0;
	}
	if (reach == LOADED)
		tp = is_tcp(sk, typed) ? bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock)) : NULL;
	else
		tp = tcp_of(sk, typed);
	if (!tp)
		return 0;
	row.inode = by->inode;
	row.sock.cookie = cookie_of(sk, typed, reach == TRUSTED);
	write_row(by, &row, tp, typed);
	return 0;
}

static __always_inline void start(const struct bpf_iter__task_file *ctx, const struct holder *by)
{
	if (!ctx->meta->seq_num) {
		newest_netns = 0;
		newest_cgroup = 0;
	}
	write_netns(by, by->task->nsproxy->net_ns, true);
}

/* The file at hand, NULL after the last one, and what all kinds of it have. */
static __always_inline struct file *open(const struct bpf_iter__task_file *ctx, struct holder *by)
{
	struct file *file = ctx->file;

	by->seq = ctx->meta->seq;
	by->task = ctx->task;
	if (!by->task || !file)
		return NULL;
	start(ctx, by);
	by->inode = file->f_inode->i_ino;
	return file;
}

/* Never attached: what `sockets` stands or falls with, in a program that takes the verifier no time. */
SEC("iter/task_file")
int sockets_trusted(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct socket *socket;

	if (!file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (socket && socket->sk && !bpf_skc_to_tcp_sock(socket->sk))
		return 0;
	return 0;
}

SEC("iter/task_file")
int sockets(struct bpf_iter__task_file *ctx)
{
	struct socket *socket;
	struct holder by;
	struct file *file = open(ctx, &by);

	if (!file)
		return 0;
	socket = bpf_sock_from_file(file);
	return socket ? write_socket(&by, socket->sk, TRUSTED) : 0;
}

/* Where the verifier does not trust what leads from a file to its socket: read by type all the same, without making cookies. */
SEC("iter/task_file")
int sockets_cast(struct bpf_iter__task_file *ctx)
{
	struct socket *socket;
	struct holder by;
	struct file *file = open(ctx, &by);

	if (!file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket || !socket->sk)
		return 0;
	return write_socket(&by, bpf_rdonly_cast(socket->sk, bpf_core_type_id_kernel(struct sock)), LOADED);
}

#define SOCKFS_MAGIC 0x534F434B /* linux/magic.h */

/* Before 5.12 there is no bpf_sock_from_file, or no cookie for what it gives: a socket is known by its file system. */
SEC("iter/task_file")
int sockets_by_magic(struct bpf_iter__task_file *ctx)
{
	struct socket *socket;
	struct holder by;
	struct file *file = open(ctx, &by);

	if (!file)
		return 0;
	if (file->f_inode->i_sb->s_magic != SOCKFS_MAGIC)
		return 0;
	socket = file->private_data;
	return write_socket(&by, BPF_CORE_READ(socket, sk), PROBED);
}
