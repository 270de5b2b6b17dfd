from segment.cli.predict_report import BlockProgress


def test_progress_is_told_in_voxels_from_what_was_done_before_to_all():
    told = []
    shown = BlockProgress(4, 1, 1000, lambda *figures: told.append(figures))
    shown.on_part(2, 0.5)
    shown.on_part(3, 0.2)
    shown.on_done(2)
    shown.on_part(3, 0.6)
    shown.on_done(3)
    shown.on_done(1)
    assert told == [(375, 1000), (425, 1000), (550, 1000), (650, 1000), (750, 1000), (1000, 1000)]
