"""Boosted trees that several parties grow on the people they share; `secure_boost` and `transfer_boost` use it.

The active party encrypts gradient and hessian, a passive party sums them over its bins, the active party decrypts the
sums and chooses (SecureBoost, Cheng et al. 2019). It learns of a partner's split an opaque number and who goes left;
thresholds stay where the column is. Any number of *ensembles* (folds, bags) grow side by side, so that a message
carries all of them; each has one tree per round and *output* (classes have one each).

A recipe's active program::

    loss = loss_of(frame.kind, len(frame.classes))            # LogLoss(), SquaredError(), Softmax(k)
    packing = packing_for(len(task.train))
    plan = Plan(people, ensembles, loss.outputs, rounds, depth, min_bucket, max_bins, packing.bits, columns=1.0)
    cipher = scheme.generate()
    partners = invite(task, plan, cipher)                     # or invite(task, None, None): there will be no trees
    own = Candidates(values[task.train], BinEdges.fit(...), min_bucket, monotone)
    rules = Rules(packing, l2, min_bucket, min_gain, min_hessian)
    growth = Growth(task, plan, own, partners, cipher, rules, loss, Sampling(task.seed), learning_rate,
                    label, weight, margins)                   # margins: (ensembles, people, outputs), where to start
    for number in range(plan.first, plan.rounds):
        growth.round(number, training)                        # training: bool (ensembles, people), may differ by round
        ...                                                   # growth.margins: of everybody, trained on or not
    growth.finish(rounds grown)                               # tells the partners when it is before plan.rounds

and its passive program::

    accepted = accept(task, least_bucket)                     # None: there will be no trees
    plan, public = accepted
    own = Candidates(values[task.train], BinEdges.fit(values, categorical, plan.max_bins), plan.min_bucket, monotone)
    summing = join(task, plan, own, scheme, public)
    for number in range(plan.first, plan.rounds if own.count else 0):
        if not summing.round(number): break

What is left: ``growth.leaves`` (per tree its 2^depth leaf values, in margin, learning rate included), ``growth.owners``
(per tree the parties that split it) and each party's ``splits``; tree number = round · plan.trees + ensemble · outputs
+ output.

Rules that hold in every run: a passive party withholds candidates whose sums differ by fewer than `min_bucket` training
people (:class:`Candidates`) and refuses a plan with a smaller one than its own; the key holder chooses no side
of fewer, by the count under encryption, and sees that who is named adds up to the sum that was sent. Rows are sampled
by :class:`Sampling`, columns by `Plan.columns`, both anew for every tree; sampled-out rows are still sent to a leaf.
With the same seed a run gives the same trees, whatever the cipher; a run that goes on from round `Plan.first` with the
margins, leaves, splits and owners of an earlier one gives what it would have given undisturbed, under a new key.
"""

from ftl.protocols.boosting.candidates import Candidates
from ftl.protocols.boosting.columns import Column
from ftl.protocols.boosting.growth import Growth, invite, packing_for
from ftl.protocols.boosting.losses import LogLoss, Loss, Softmax, SquaredError, loss_of
from ftl.protocols.boosting.masks import collect_masks, mask_type
from ftl.protocols.boosting.messages import Kept, Masks, Plan, Working, receive, require_shape, send
from ftl.protocols.boosting.offers import Best, FixedPoint, Offer, Rules, Total, best_split
from ftl.protocols.boosting.partition import Partition, bundles, columns_of, from_bits, leaf_bits, to_bits
from ftl.protocols.boosting.passive import Summing, accept, join
from ftl.protocols.boosting.sampling import Sampling

__all__ = [
    "Best",
    "Candidates",
    "Column",
    "FixedPoint",
    "Growth",
    "Kept",
    "LogLoss",
    "Loss",
    "Masks",
    "Offer",
    "Partition",
    "Plan",
    "Rules",
    "Sampling",
    "Softmax",
    "SquaredError",
    "Summing",
    "Total",
    "Working",
    "accept",
    "best_split",
    "bundles",
    "collect_masks",
    "columns_of",
    "from_bits",
    "invite",
    "join",
    "leaf_bits",
    "loss_of",
    "mask_type",
    "packing_for",
    "receive",
    "require_shape",
    "send",
    "to_bits",
]
