"""Micro models of the true classes, with weights drawn from a fixed seed."""

import pytest
import torch

SVD_SCHEDULER = {
    "prediction_type": "v_prediction",
    "timestep_type": "continuous",
    "timestep_spacing": "leading",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
}


def make_unet():
    from diffusers import UNetSpatioTemporalConditionModel

    return UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        transformer_layers_per_block=1,
        cross_attention_dim=16,
        num_attention_heads=(2, 4),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        num_frames=8,
    )


def make_temporal_vae():
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        layers_per_block=1,
    )


def make_tiny_vae():
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )


def make_image_encoder():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=224,
            patch_size=56,
            projection_dim=16,
        )
    ).eval()


def make_pose_net():
    from mimicmotion.modules.pose_net import PoseNet

    pose_net = PoseNet(32)
    torch.nn.init.normal_(pose_net.final_proj.weight, std=0.2)
    return pose_net


def make_scheduler():
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(**SVD_SCHEDULER)


def make_pipeline(vae=None, seed=0):
    from transformers import CLIPImageProcessorPil

    from mimicmotion.pipelines.pipeline_mimicmotion import MimicMotionPipeline

    torch.manual_seed(seed)
    pipeline = MimicMotionPipeline(
        vae=(vae or make_temporal_vae()).eval(),
        image_encoder=make_image_encoder(),
        unet=make_unet().eval(),
        scheduler=make_scheduler(),
        feature_extractor=CLIPImageProcessorPil(),
        pose_net=make_pose_net().eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def shared_pipeline():
    """One micro pipeline for the whole run; tests that change it put it back."""
    return make_pipeline()


@pytest.fixture
def pipeline(shared_pipeline):
    """The micro pipeline with its SVD scheduler."""
    shared_pipeline.scheduler = make_scheduler()
    return shared_pipeline
